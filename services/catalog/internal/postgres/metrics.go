package postgres

import "github.com/prometheus/client_golang/prometheus"

// collector reads the pool's own figures when it is asked for them.
type collector struct {
	store       *Store
	connections *prometheus.Desc
	limit       *prometheus.Desc
	acquired    *prometheus.Desc
	waited      *prometheus.Desc
	waitSeconds *prometheus.Desc
	timeouts    *prometheus.Desc
	opened      *prometheus.Desc
	recycled    *prometheus.Desc
}

// Collector reports the pool to Prometheus.
func (s *Store) Collector() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("agentflow_db_pool_"+name, help, labels, nil)
	}
	return &collector{
		store:       s,
		connections: desc("connections", "Connections by what they are doing.", "state"),
		limit:       desc("connections_limit", "The most connections that the pool opens."),
		acquired:    desc("acquired_total", "Connections handed out."),
		waited:      desc("waited_total", "Connections handed out after a wait, because none was free."),
		waitSeconds: desc("wait_seconds_total", "Time spent waiting for a connection."),
		timeouts:    desc("timeouts_total", "Waits for a connection that were given up."),
		opened:      desc("opened_total", "Connections opened."),
		recycled:    desc("recycled_total", "Connections closed because they were old or idle."),
	}
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	stat := c.store.pool.Stat()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	gauge(c.connections, float64(stat.AcquiredConns()), "in_use")
	gauge(c.connections, float64(stat.IdleConns()), "idle")
	gauge(c.connections, float64(stat.ConstructingConns()), "opening")
	gauge(c.limit, float64(stat.MaxConns()))
	count(c.acquired, float64(stat.AcquireCount()))
	count(c.waited, float64(stat.EmptyAcquireCount()))
	count(c.waitSeconds, stat.EmptyAcquireWaitTime().Seconds())
	count(c.timeouts, float64(c.store.timeouts.Load()))
	count(c.opened, float64(stat.NewConnsCount()))
	count(c.recycled, float64(stat.MaxLifetimeDestroyCount()+stat.MaxIdleDestroyCount()))
}

var _ prometheus.Collector = (*collector)(nil)

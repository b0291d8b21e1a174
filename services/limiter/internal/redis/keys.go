package redis

import "github.com/agentflow/agentflow/pkg/protocol"

// Key addresses a queue of a tenant, or a share of it.
type Key struct {
	Tenant protocol.TenantID
	Queue  string
	Share  string // "" for the whole
}

// The keys of a queue are rate_limit:{<tenant>:<queue>}:<metric>:<window>. What stands in braces
// is the hash tag, so that all of them lie on one node of a cluster. Names are escaped like
// subject tokens, which keeps braces and colons out of them.
func (k Key) prefix() string {
	return "rate_limit:{" + string(k.Tenant) + ":" + protocol.Token(k.Queue) + "}:"
}

func (k Key) share() string {
	if k.Share == "" {
		return ""
	}
	return "/" + protocol.Token(k.Share)
}

func (k Key) whole() Key { return Key{Tenant: k.Tenant, Queue: k.Queue} }

// state holds the counters of all metrics, up to the longest window.
func (k Key) state() string { return k.prefix() + "all" + k.share() + ":60s" }

// closed exists while the queue is shut.
func (k Key) closed() string { return k.prefix() + "closed:until" }

// reserved and expiring hold the reservations of LLM tokens that nobody has settled yet.
func (k Key) reserved() string {
	return k.prefix() + string(protocol.MetricTokens) + k.share() + ":reserved"
}

func (k Key) expiring() string {
	return k.prefix() + string(protocol.MetricTokens) + k.share() + ":expiring"
}

// probe is written to find out whether the queue's node takes writes.
func (k Key) probe() string { return k.prefix() + "probe:1s" }

// all are the keys of an acquire or a settle, in the order of the script.
func (k Key) all() []string {
	keys := []string{k.closed(), k.reserved(), k.expiring(), k.whole().state()}
	if k.Share != "" {
		keys = append(keys, k.state())
	}
	return keys
}

package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// goroutines asks a platform how many it has.
func (c *child) goroutines(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := c.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = body.Close() }() // only read from
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			n, err := strconv.ParseFloat(value, 64)
			return int64(n), err
		}
	}
	return 0, errors.Join(errors.New("the platform does not tell its goroutines"), lines.Err())
}

// profile writes a CPU profile of the platform over the time that follows.
func (c *child) profile(ctx context.Context, file string, during time.Duration) error {
	seconds := max(1, int(during.Round(time.Second)/time.Second))
	body, err := c.ask(ctx, "/debug/pprof/profile?seconds="+strconv.Itoa(seconds))
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }() // only read from
	out, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("keep the profile: %w", err)
	}
	_, err = io.Copy(out, body)
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("keep the profile: %w", err)
	}
	return nil
}

func (c *child) ask(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: the port is ours
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the platform's admin port: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("the admin port answers %s to %s", resp.Status, path), resp.Body.Close())
	}
	return resp.Body, nil
}

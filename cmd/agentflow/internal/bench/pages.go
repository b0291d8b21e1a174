package bench

import (
	"context"
	"encoding/json"
	"net/http"
)

// pages lists executions: the newest, those behind them, and those that completed, in turn.
func pages(t *target, _ int) (sender, error) {
	first := t.api.request(http.MethodGet, "/executions?limit=50", nil)
	behind := t.api.request(http.MethodGet, "/executions?limit=50", nil)
	completed := t.api.request(http.MethodGet, "/executions?limit=50&status=COMPLETED", nil)
	want := []byte(`"has_more"`)
	turn := -1
	return func(context.Context) outcome {
		turn++
		switch turn % 3 {
		case 0:
			fault := first.send(http.StatusOK, want)
			var page struct {
				Next string `json:"next_cursor"`
			}
			if fault == "" && json.Unmarshal(first.resp.Body(), &page) == nil && page.Next != "" {
				behind.path("/executions?limit=50&cursor=" + page.Next)
			}
			return outcome{"first page", fault}
		case 1:
			return outcome{"next page", behind.send(http.StatusOK, want)}
		default:
			return outcome{"completed", completed.send(http.StatusOK, want)}
		}
	}, nil
}

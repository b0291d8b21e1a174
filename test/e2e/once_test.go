package e2e

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWrittenOnce repeats writes under an Idempotency-Key: each is carried out once, and a refused one leaves its key free.
func TestWrittenOnce(t *testing.T) {
	t.Parallel()
	p := use(t)
	c := found(t, p, "hasty")
	admin := p.As(p.Ready().AdminKey)
	spec := object{"start_node": "in", "nodes": []object{{"id": "in", "type": "input"}}}
	order := object{"name": "once", "spec": spec}

	first := c.Call(t, http.MethodPost, "/workflows", order, "Idempotency-Key", "w")
	require.Equal(t, http.StatusCreated, first.Status, "%s", first.Body)
	require.Empty(t, first.Header.Get("Idempotency-Replayed"))
	for range 2 {
		again := c.Call(t, http.MethodPost, "/workflows", order, "Idempotency-Key", "w")
		require.Equal(t, http.StatusCreated, again.Status, "%s", again.Body)
		require.Equal(t, first.JSON(t), again.JSON(t))
		require.Equal(t, "true", again.Header.Get("Idempotency-Replayed"))
	}
	require.Equal(t, []string{first.JSON(t)["id"].(string)}, c.list(t, "/workflows"))

	key := object{"name": "spare", "tenant_id": c.id, "scopes": []string{"workflows:read"}}
	keys := func() float64 {
		return admin.Get(t, "/keys?tenant_id="+c.id).JSON(t)["total"].(float64)
	}
	before := keys()
	a := admin.Call(t, http.MethodPost, "/keys", key, "Idempotency-Key", "k-"+c.id)
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	for range 2 {
		a = admin.Call(t, http.MethodPost, "/keys", key, "Idempotency-Key", "k-"+c.id)
		require.Equal(t, http.StatusConflict, a.Status, "its secret is shown once: %s", a.Body)
	}
	require.InDelta(t, before+1, keys(), 0)

	// What is refused has not happened: mended, or in another state of things, it may come again under its key.
	a = c.Call(t, http.MethodPost, "/workflows", object{"name": " ", "spec": spec}, "Idempotency-Key", "m")
	require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s", a.Body)
	a = c.Call(t, http.MethodPost, "/workflows", object{"name": "mended", "spec": spec}, "Idempotency-Key", "m")
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	a = c.Call(t, http.MethodPost, "/workflows", object{"name": "another", "spec": spec}, "Idempotency-Key", "m")
	require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s", a.Body)
	require.Equal(t, "IDEMPOTENCY_REUSED", a.JSON(t)["code"])
	source := object{"id": "model", "kind": "llm", "config": object{"provider": "echo"}}
	require.Equal(t, http.StatusCreated, c.Call(t, http.MethodPost, "/sources", source).Status)
	require.Equal(t, http.StatusConflict, c.Call(t, http.MethodPost, "/sources", source, "Idempotency-Key", "s").Status)
	require.Equal(t, http.StatusOK, c.Call(t, http.MethodDelete, "/sources/model", nil).Status)
	a = c.Call(t, http.MethodPost, "/sources", source, "Idempotency-Key", "s")
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
}

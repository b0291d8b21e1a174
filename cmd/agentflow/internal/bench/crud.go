package bench

import (
	"context"
	"fmt"
	"net/http"
)

// crud stores a workflow, reads it, lists the newest, and deletes it: one request after the other.
func crud(t *target, client int) (sender, error) {
	c := &crudClient{
		target: t, client: client, spec: threeStep(t).workflow,
		create: t.api.request(http.MethodPost, "/workflows", []byte{}), get: t.api.request(http.MethodGet, "", nil),
		list: t.api.request(http.MethodGet, "/workflows?limit=20", nil), del: t.api.request(http.MethodDelete, "", nil),
	}
	c.turn = c.storeOne
	t.cruds = append(t.cruds, c)
	return func(context.Context) outcome { return c.turn() }, nil
}

type crudClient struct {
	target                 *target
	client, count          int
	spec                   string
	id                     string // of the workflow that is there now
	create, get, list, del *request
	turn                   func() outcome // what comes next
}

func (c *crudClient) storeOne() outcome {
	c.count++
	c.create.req.SetBodyRaw(newWorkflow(fmt.Sprintf("bench %s crud %d %d", c.target.run, c.client, c.count), c.spec))
	fault := c.create.send(http.StatusCreated, nil)
	if fault == "" {
		var err error
		if c.id, err = idOf(c.create.resp.Body()); err != nil {
			fault = "wrong answer"
		}
	}
	if fault == "" { // else there is nothing to go on with
		c.turn = c.readIt
	}
	return outcome{"create", fault}
}

func (c *crudClient) readIt() outcome {
	c.turn = c.listSome
	c.get.path("/workflows/" + c.id)
	return outcome{"get", c.get.send(http.StatusOK, []byte(c.id))}
}

func (c *crudClient) listSome() outcome {
	c.turn = c.deleteIt
	return outcome{"list", c.list.send(http.StatusOK, []byte(`"has_more"`))}
}

func (c *crudClient) deleteIt() outcome {
	c.turn = c.storeOne
	c.del.path("/workflows/" + c.id)
	fault := c.del.send(http.StatusOK, nil)
	if fault == "" {
		c.id = ""
	}
	return outcome{"delete", fault}
}

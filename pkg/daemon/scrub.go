package daemon

import (
	"encoding/json"
	"fmt"

	"github.com/getsentry/sentry-go"
)

// scrubber takes secrets out of an error report just before it leaves the process: values announced to
// Runtime.Mask, whatever looks like a secret, and whole fields that tend to hold one.
type scrubber struct {
	masks *masks
}

func (s scrubber) text(text string) string { return scrubText(s.masks.text(text)) }

// event is sentry.ClientOptions.BeforeSend. It never drops an event: one with too much masked is better than none.
func (s scrubber) event(event *sentry.Event, _ *sentry.EventHint) *sentry.Event {
	event.Message = s.text(event.Message)
	event.Transaction = s.text(event.Transaction)
	s.tags(event.Tags)
	for name, value := range event.Contexts {
		event.Contexts[name] = s.object(value)
	}
	for i := range event.Exception {
		e := &event.Exception[i]
		e.Value = s.text(e.Value)
		s.stack(e.Stacktrace)
		if e.Mechanism != nil {
			e.Mechanism.Data = s.object(e.Mechanism.Data)
		}
	}
	for _, thread := range event.Threads {
		s.stack(thread.Stacktrace)
	}
	for i := range event.Breadcrumbs {
		crumb := *event.Breadcrumbs[i] // a copy: the trail may still be read
		s.breadcrumb(&crumb)
		event.Breadcrumbs[i] = &crumb
	}
	for i, part := range event.Fingerprint {
		event.Fingerprint[i] = s.text(part)
	}
	event.Request = nil // headers, cookies, query and body of a request are the client's, not ours to forward
	event.User = sentry.User{}
	event.Attachments = nil
	return event
}

func (s scrubber) breadcrumb(crumb *sentry.Breadcrumb) {
	crumb.Message = s.text(crumb.Message)
	crumb.Data = s.object(crumb.Data)
}

func (s scrubber) tags(tags map[string]string) {
	for name, value := range tags {
		if isSecretName(name) {
			tags[name] = masked
			continue
		}
		tags[name] = s.text(value)
	}
}

func (s scrubber) stack(stack *sentry.Stacktrace) {
	if stack == nil {
		return
	}
	for i := range stack.Frames {
		stack.Frames[i].Vars = s.object(stack.Frames[i].Vars)
	}
}

// object is a copy of m without secrets.
func (s scrubber) object(m map[string]any) map[string]any {
	if m == nil {
		return nil
	}
	clean := make(map[string]any, len(m))
	for name, value := range m {
		if isSecretName(name) {
			clean[name] = masked
			continue
		}
		clean[s.text(name)] = s.value(value)
	}
	return clean
}

// value scrubs strings wherever they sit. Types of our own go through JSON first, since a struct's fields cannot
// be replaced in place.
func (s scrubber) value(value any) any {
	switch v := value.(type) {
	case nil, bool, int, int32, int64, uint, uint32, uint64, float32, float64:
		return v
	case string:
		return s.text(v)
	case error:
		return s.text(v.Error())
	case map[string]any:
		return s.object(v)
	case []any:
		clean := make([]any, len(v))
		for i := range v {
			clean[i] = s.value(v[i])
		}
		return clean
	case fmt.Stringer:
		return s.text(v.String())
	}
	var plain any
	data, err := json.Marshal(value)
	if err == nil {
		err = json.Unmarshal(data, &plain)
	}
	if err != nil {
		return s.text(fmt.Sprint(value))
	}
	return s.value(plain)
}

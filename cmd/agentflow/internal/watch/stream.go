package watch

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Message is one server-sent event.
type Message struct {
	ID    string
	Event string
	Data  json.RawMessage
}

// Terminal tells whether the message is the end of the execution.
func (m Message) Terminal() bool { return terminal(name(m.Event)) }

// largest is how long a line may be: an event holds at most what one commit does.
const largest = 16 << 20

// Stream calls fn with each message of a stream until it ends or fn returns an error.
func Stream(r io.Reader, fn func(Message) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), largest)
	var m Message
	var data [][]byte
	for lines.Scan() {
		line := lines.Bytes()
		if len(line) == 0 {
			if len(data) > 0 {
				m.Data = bytes.Join(data, []byte{'\n'})
				if err := fn(m); err != nil {
					return err
				}
			}
			m, data = Message{}, nil
			continue
		}
		field, value, _ := strings.Cut(string(line), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			m.ID = value
		case "event":
			m.Event = value
		case "data":
			data = append(data, []byte(value))
		} // anything else, comments among them, says nothing to us
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return nil
}

package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/mailru/easyjson/jlexer"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Headers of a commit, beside those of CloudEvents.
const (
	headerPrev   = "Agentflow-Prev" // sequence of the aggregate's commit before this one
	headerCeID   = "ce-id"
	headerCeType = "ce-type"
	headerCeTime = "ce-time"
	headerCeSrc  = "ce-source"
	headerCeSpec = "ce-specversion"
)

// Error codes of the JetStream API that mean something to us.
const (
	jsWrongLastSequence         = 10071
	jsWrongLastSequenceConstant = 10164
	jsInsufficientResources     = 10023
	jsStorageExceeded           = 10047
	jsStoreFailed               = 10077 // the store refused: maximum bytes exceeded, or the disk is full
)

// publishWait bounds one attempt to publish; the fence makes the next one safe.
const publishWait = 5 * time.Second

// Append adds a commit to an execution's log behind the commit with sequence after (0 for the
// first). It returns ErrConflict when another writer was there first, and ErrLogFull when the
// stream takes nothing. A commit whose acknowledgement was lost is recognised by its id, so
// Append either returns the sequence under which this very commit stands, or an error.
func (b *Bus) Append(ctx context.Context, key protocol.ExecutionKey, after uint64, c protocol.Commit) (uint64, error) {
	body := c.Body
	if body == nil {
		var err error
		if body, err = protocol.EncodeCommit(c); err != nil {
			return 0, err
		}
	}
	subject := key.Log()
	if after == 0 || protocol.Job(c.Events[0].Event) {
		subject = key.Requested()
	}
	msg := &nats.Msg{Subject: subject, Data: body, Header: nats.Header{
		headerCeID:   {c.ID},
		headerCeType: {protocol.CommitType},
		headerCeSrc:  {"/agentflow/executions"},
		headerCeSpec: {"1.0"},
		headerCeTime: {c.Events[0].At.String()},
		headerPrev:   {strconv.FormatUint(after, 10)},
	}}
	injectTrace(ctx, msg.Header)
	for refused := 0; ; {
		seq, err := b.publishFenced(ctx, msg, after, key.All())
		switch {
		case err == nil:
			return seq, nil
		case final(err):
			return 0, fmt.Errorf("append to %s: %w", key.ID, err)
		}
		// The fence refused, or no answer came: what stands in the log decides.
		last, lerr := b.Last(ctx, key)
		switch {
		case lerr == nil && last.ID == c.ID:
			return last.Sequence, nil
		case lerr == nil && last.Sequence > after:
			if seq, err = b.find(ctx, key, after, c.ID); err == nil {
				return seq, nil
			}
			if errors.Is(err, ErrConflict) {
				return 0, fmt.Errorf("append to %s after %d, found %d: %w", key.ID, after, last.Sequence, ErrConflict)
			}
		case errors.Is(err, ErrConflict) && refused == maxRefused:
			if errors.Is(lerr, ErrNotFound) {
				err = ErrNotFound // trimmed: what it was has ended long ago
			}
			return 0, fmt.Errorf("append to %s after %d: %w", key.ID, after, err)
		case errors.Is(err, ErrConflict):
			refused++ // but nothing newer to be read: a replica that lags behind, or nothing is left
		case lerr != nil && !errors.Is(lerr, ErrNotFound):
			err = lerr // cannot even read: try both again
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("append to %s: %w", key.ID, errors.Join(ErrUnavailable, err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// maxRefused is how often the fence may refuse while nothing newer can be read.
const maxRefused = 10

// final tells whether trying again cannot help.
func final(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, ErrLogFull) || errors.Is(err, nats.ErrMaxPayload) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.As(err, &api) && api.Code == 400
}

// find looks for a commit right behind a sequence: others may have appended to one whose
// acknowledgement was lost. ErrConflict says that another commit stands there.
func (b *Bus) find(ctx context.Context, key protocol.ExecutionKey, after uint64, id string) (uint64, error) {
	records, err := b.Load(ctx, key, after)
	switch {
	case err != nil && !errors.Is(err, ErrNotFound):
		return 0, err
	case len(records) > 0 && records[0].ID == id:
		return records[0].Sequence, nil
	}
	return 0, ErrConflict
}

// publishFenced publishes once, behind the sequence that the subjects of fence have to end with. It reads the
// acknowledgement itself: that of the client library goes through reflection, once for every commit.
func (b *Bus) publishFenced(ctx context.Context, msg *nats.Msg, after uint64, fence string) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, publishWait)
	defer cancel()
	msg.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(after, 10)}
	msg.Header[jetstream.ExpectedLastSubjSeqSubjHeader] = []string{fence}
	reply, err := b.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return 0, err
	}
	seq, refused, err := readAck(reply.Data)
	switch {
	case err != nil:
		return 0, err
	case refused == nil:
		return seq, nil
	}
	switch refused.ErrorCode {
	case jsStoreFailed, jsStorageExceeded, jsInsufficientResources:
		return 0, ErrLogFull
	case jsWrongLastSequence, jsWrongLastSequenceConstant:
		return 0, ErrConflict
	default:
		return 0, refused
	}
}

// readAck reads what a stream answers to a publish: the sequence of the message, or why it was refused.
func readAck(data []byte) (seq uint64, refused *jetstream.APIError, err error) {
	l := jlexer.Lexer{Data: data}
	l.Delim('{')
	for l.Ok() && !l.IsDelim('}') {
		key := l.UnsafeFieldName(false)
		l.WantColon()
		switch key {
		case "seq":
			seq = l.Uint64()
		case "error":
			l.AddError(json.Unmarshal(l.Raw(), &refused))
		default:
			l.SkipRecursive()
		}
		l.WantComma()
	}
	l.Delim('}')
	l.Consumed()
	if err := l.Error(); err != nil {
		return 0, nil, fmt.Errorf("acknowledgement of a publish: %w", err)
	}
	if seq == 0 && refused == nil {
		return 0, nil, errors.New("acknowledgement of a publish: it holds neither a sequence nor an error")
	}
	return seq, refused, nil
}

// Last returns the newest commit of an execution.
func (b *Bus) Last(ctx context.Context, key protocol.ExecutionKey) (protocol.Record, error) {
	s, err := b.stream(ctx, key.Stream())
	if err != nil {
		return protocol.Record{}, err
	}
	var last *jetstream.RawStreamMsg
	for _, subject := range []string{key.Requested(), key.Log()} {
		raw, err := s.GetLastMsgForSubject(ctx, subject)
		switch {
		case errors.Is(err, jetstream.ErrMsgNotFound):
		case err != nil:
			return protocol.Record{}, fmt.Errorf("read last commit of %s: %w", key.ID, err)
		case last == nil || raw.Sequence > last.Sequence:
			last = raw
		}
	}
	if last == nil {
		return protocol.Record{}, fmt.Errorf("execution %s: %w", key.ID, ErrNotFound)
	}
	return record(last.Header, last.Data, last.Sequence, last.Time)
}

// Load returns the commits of an execution after the sequence given, in order. It goes back from
// the newest by sequence. From the beginning (0) it stops early at a carried commit, which holds
// everything before it; behind a sequence the commits are complete unless some have been trimmed,
// and then they begin with a carried one. ErrNotFound says that there are none, or none that
// still make sense: an execution that has ended is trimmed from its beginning.
func (b *Bus) Load(ctx context.Context, key protocol.ExecutionKey, after uint64) ([]protocol.Record, error) {
	rec, err := b.Last(ctx, key)
	if err != nil {
		return nil, err
	}
	s, err := b.stream(ctx, key.Stream())
	if err != nil {
		return nil, err
	}
	var out []protocol.Record
	for rec.Sequence > after {
		out = append(out, rec)
		if rec.Previous <= after || after == 0 && carried(rec.Commit) {
			break
		}
		raw, err := s.GetMsg(ctx, rec.Previous)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			if out, err = b.trimmed(ctx, key, rec.Previous, out); err != nil {
				return nil, err
			}
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read commit %d of %s: %w", rec.Previous, key.ID, err)
		}
		if rec, err = record(raw.Header, raw.Data, raw.Sequence, raw.Time); err != nil {
			return nil, err
		}
	}
	slices.Reverse(out)
	return out, nil
}

// errTrimmed is the ErrNotFound of an execution of which the log holds a rest.
var errTrimmed = fmt.Errorf("its beginning has been trimmed: %w", ErrNotFound)

// trimmed decides what commits, newest first, are worth when the one before them is not there.
func (b *Bus) trimmed(ctx context.Context, key protocol.ExecutionKey, missing uint64, found []protocol.Record) ([]protocol.Record, error) {
	state, err := b.State(ctx, key.Stream())
	if err != nil {
		return nil, err
	}
	if missing >= state.First {
		// It stands at the leader: the replica that answered lags behind.
		return nil, fmt.Errorf("read commit %d of %s: %w", missing, key.ID, ErrUnavailable)
	}
	for i, rec := range slices.Backward(found) {
		if carried(rec.Commit) {
			return found[:i+1], nil
		}
	}
	return nil, fmt.Errorf("execution %s: %w", key.ID, errTrimmed)
}

func carried(c protocol.Commit) bool {
	_, ok := c.Events[0].Event.(protocol.Carried)
	return ok
}

func record(h nats.Header, body []byte, seq uint64, stored time.Time) (protocol.Record, error) {
	c, err := protocol.DecodeCommit(h.Get(headerCeID), body)
	if err != nil {
		return protocol.Record{}, err
	}
	prev, err := strconv.ParseUint(h.Get(headerPrev), 10, 64)
	if err != nil {
		return protocol.Record{}, fmt.Errorf("commit %d: header %s: %w", seq, headerPrev, err)
	}
	return protocol.Record{Commit: c, Sequence: seq, Previous: prev, Stored: stored.UTC()}, nil
}

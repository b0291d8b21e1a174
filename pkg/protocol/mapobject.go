package protocol

// MapObject returns the event with each of its objects replaced by what fn makes of it: to move
// large values to the object store, and to bring them back.
func MapObject(e Event, fn func(Object) Object) Event {
	switch e := e.(type) {
	case Requested:
		e.Input = fn(e.Input)
		return e
	case NodeCompleted:
		e.Delta = fn(e.Delta)
		return e
	case Completed:
		e.State = fn(e.State)
		return e
	case Failed:
		e.State = fn(e.State)
		return e
	case TimedOut:
		e.State = fn(e.State)
		return e
	case Cancelled:
		e.State = fn(e.State)
		return e
	case Started, NodeFailed, NodeRateLimited, CancelRequested, Carried:
	}
	return e
}

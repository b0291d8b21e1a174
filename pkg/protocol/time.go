package protocol

import (
	"fmt"
	"time"
)

// TimeFormat is how every time appears on a wire: RFC 3339, UTC, milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"

// Time is a moment as the platform writes it. The zero Time is written as null.
type Time struct{ time.Time }

// At cuts a moment to what TimeFormat can hold, so that a value survives a round trip.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Millisecond)} }

// String renders the moment as TimeFormat.
func (t Time) String() string { return t.UTC().Format(TimeFormat) }

// MarshalJSON writes TimeFormat, or null for the zero Time.
func (t Time) MarshalJSON() ([]byte, error) { return t.append(make([]byte, 0, len(TimeFormat)+2)) }

func (t Time) append(b []byte) ([]byte, error) {
	if t.IsZero() {
		return append(b, "null"...), nil
	}
	utc := t.UTC()
	if y := utc.Year(); y < 0 || y > 9999 {
		return nil, fmt.Errorf("the year %d has more than four digits", y)
	}
	b = append(b, '"')
	b = utc.AppendFormat(b, TimeFormat)
	return append(b, '"'), nil
}

// UnmarshalJSON reads any RFC 3339 time, or null.
func (t *Time) UnmarshalJSON(b []byte) error {
	s := string(b)
	if s == "null" {
		*t = Time{}
		return nil
	}
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return fmt.Errorf("time %s is not a string", s)
	}
	v, err := time.Parse(time.RFC3339Nano, s[1:len(s)-1])
	if err != nil {
		return fmt.Errorf("time %s is not RFC 3339: %w", s, err)
	}
	if y := v.UTC().Year(); y < 0 || y > 9999 {
		return fmt.Errorf("time %s is not within the years 0 to 9999 in UTC", s)
	}
	*t = At(v)
	return nil
}

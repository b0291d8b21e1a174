package main

import (
	"os"

	"golang.org/x/term"
)

// paint colours text for a terminal, or leaves it as it is.
type paint bool

// paint is for stdout. NO_COLOR is of no-color.org: any value counts, and the terminal named dumb means it, too.
func (p *process) paint() paint {
	_, terminal := p.terminal()
	return paint(terminal && p.env("NO_COLOR") == "" && p.env("TERM") != "dumb")
}

// terminal is stdout when that is one.
func (p *process) terminal() (*os.File, bool) {
	file, ok := p.stdout.(*os.File)
	return file, ok && term.IsTerminal(int(file.Fd()))
}

func (p paint) with(code, text string) string {
	if !p || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p paint) dim(text string) string    { return p.with("2", text) }
func (p paint) bold(text string) string   { return p.with("1", text) }
func (p paint) green(text string) string  { return p.with("32", text) }
func (p paint) red(text string) string    { return p.with("31", text) }
func (p paint) yellow(text string) string { return p.with("33", text) }

// status colours a state by what it means to people.
func (p paint) status(text string) string {
	switch text {
	case "COMPLETED", "active", "published":
		return p.green(text)
	case "FAILED", "TIMED_OUT", "suspended", "revoked", "expired":
		return p.red(text)
	case "RUNNING", "RETRYING", "RATE_LIMITED", "CANCELLED":
		return p.yellow(text)
	}
	return text
}

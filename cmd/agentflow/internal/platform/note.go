package platform

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/local"
)

// Note is what a running platform leaves in its data folder, for tools of the same user. It counts only while the
// folder is locked by that process.
type Note struct {
	PID         int    `json:"pid"`
	URL         string `json:"url"`
	APIKey      string `json:"api_key"`
	AdminKey    string `json:"admin_key"`
	NATSURL     string `json:"nats_url"`
	DatabaseURL string `json:"database_url"` // the owner's
}

func notePath(data string) string { return filepath.Join(data, "running.json") }

func (p *platform) leaveNote(info Info) error {
	err := replaceFile(notePath(p.options.Data), Note{
		PID: info.PID, URL: info.URL, APIKey: info.APIKey, AdminKey: info.AdminKey,
		NATSURL: info.NATSURL, DatabaseURL: p.stores.databaseURL,
	})
	if err != nil {
		return fmt.Errorf("leave word of how to reach this platform: %w", err)
	}
	return nil
}

// takeNote removes it. One that stays is not believed.
func (p *platform) takeNote() {
	if err := os.Remove(notePath(p.options.Data)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.rt.Log.Warn("note not removed", zap.Error(err))
	}
}

// Running is the note of the platform that runs on a data folder, and false when none does.
func Running(data string) (Note, bool, error) {
	if _, err := os.Stat(data); err != nil {
		return Note{}, false, nil //nolint:nilerr // no folder, no platform
	}
	lock, err := local.LockDir(data)
	var locked *local.LockedError
	if err == nil {
		return Note{}, false, lock.Unlock()
	}
	if !errors.As(err, &locked) {
		return Note{}, false, err
	}
	return noteOf(data, locked)
}

// noteOf reads the note of the process that holds the folder.
func noteOf(data string, holder *local.LockedError) (Note, bool, error) {
	var note Note
	text, err := os.ReadFile(notePath(data))
	if err == nil {
		err = json.Unmarshal(text, &note)
	}
	if err != nil || note.PID != holder.PID {
		return Note{}, false, fmt.Errorf("%w, and is not ready", holder)
	}
	return note, true, nil
}

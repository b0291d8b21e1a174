package local

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// password reads the folder's password, making one on the first call. Loopback is open to every user of the machine;
// the password is what keeps them out, so the file is for its owner only.
func password(dir string) (string, error) {
	path := filepath.Join(dir, "password")
	text, err := os.ReadFile(path)
	if err == nil {
		if secret := strings.TrimSpace(string(text)); secret != "" {
			return secret, nil
		}
		return "", fmt.Errorf("%s is empty: the server's password is lost", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	secret := rand.Text()
	if err := replaceFile(path, secret+"\n"); err != nil {
		return "", fmt.Errorf("keep the password: %w", err)
	}
	return secret, nil
}

// replaceFile writes a small private file so that a reader, or a crash, finds either the old text or the new.
func replaceFile(path, text string) error {
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

package main

import (
	"os"
	"path/filepath"
)

// replaceFile writes a file so that a reader, or the next start after a kill,
// sees the old content or the new, never a part of it. Only this user may read it.
func replaceFile(file string, content []byte) error {
	temporary := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}

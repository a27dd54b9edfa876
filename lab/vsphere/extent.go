package main

import (
	"io"
	"os"
	"syscall"
)

// isOpen says whether any process has the file open: only then is a write
// lease refused with EAGAIN. Hard links count, they are the same file.
func isOpen(path string) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	const setLease = 1024
	_, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), setLease, syscall.F_WRLCK)
	return errno == syscall.EAGAIN // closing ends the lease
}

// fill makes a base extent with the bytes of source, if any, and its holes.
func fill(extent, source string) error {
	out, err := os.OpenFile(extent, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	if source == "" {
		return nil
	}
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	return eachDataRange(in, func(start, end int64) error {
		_, err := io.Copy(io.NewOffsetWriter(out, start), io.NewSectionReader(in, start, end-start))
		return err
	})
}

// eachDataRange calls f for what is not a hole.
func eachDataRange(file *os.File, f func(start, end int64) error) error {
	const seekData, seekHole = 3, 4
	for end := int64(0); ; {
		start, err := file.Seek(end, seekData)
		if err != nil {
			return nil // ENXIO: only a hole is left
		}
		if end, err = file.Seek(start, seekHole); err != nil {
			return err
		}
		if err := f(start, end); err != nil {
			return err
		}
	}
}

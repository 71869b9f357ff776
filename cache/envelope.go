package cache

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// version is the version of every file format here; a file of another version is a miss.
const version = 1

// maxFile bounds what is read of one file; nothing that is written here comes near it.
const maxFile = 1 << 30

// tempPrefix begins the names of unfinished files.
const tempPrefix = ".tmp-"

// ErrDamaged is what errors.Is finds in the MissError of a record that is there and cannot be used.
var ErrDamaged = errors.New("damaged")

// header is the first line of a file of the given kind.
func header(kind string, body []byte) []byte {
	sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
	return fmt.Appendf(nil, "ocibuild %s %d %d %08x\n", kind, version, len(body), sum)
}

// unseal returns the body of a sealed file, or an error wrapping ErrDamaged that says what is wrong with it.
func unseal(kind string, data []byte) ([]byte, error) {
	line, body, found := bytes.Cut(data, []byte("\n"))
	if !found || !bytes.HasPrefix(line, []byte("ocibuild "+kind+" ")) {
		return nil, fmt.Errorf("%w: not a %s file", ErrDamaged, kind)
	}
	if bytes.Equal(data[:len(line)+1], header(kind, body)) {
		return body, nil
	}
	fields := strings.Fields(string(line))
	switch {
	case len(fields) != 5:
		return nil, fmt.Errorf("%w: header is malformed", ErrDamaged)
	case fields[2] != strconv.Itoa(version):
		return nil, fmt.Errorf("%w: format version %.20q, want %d", ErrDamaged, fields[2], version)
	case fields[3] != strconv.Itoa(len(body)):
		return nil, fmt.Errorf("%w: %d bytes, header says %.20q", ErrDamaged, len(body), fields[3])
	}
	return nil, fmt.Errorf("%w: checksum differs", ErrDamaged)
}

// writeSealed puts a sealed file in place of whatever has its name.
func writeSealed(path, kind string, body []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		f, err = os.CreateTemp(dir, tempPrefix+"*")
	}
	if err != nil {
		return err
	}
	_, err = f.Write(header(kind, body))
	if err == nil {
		_, err = f.Write(body) // apart: a copy of a large one would be the most that a build holds
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// readSealed returns the body of the file at path and, when now is not zero, marks the file used.
func readSealed(path, kind string, now time.Time) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("%w: not a file of this cache", ErrDamaged)
	}
	data := make([]byte, info.Size())
	if n, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("%w: read %d of %d bytes: %w", ErrDamaged, n, len(data), err)
	}
	body, err := unseal(kind, data)
	if err == nil && !now.IsZero() {
		markUsed(path, info.ModTime(), now)
	}
	return body, err
}

// markUsed sets the mtime of a file that was last used longer ago than UseResolution. A read-only store stays as it is.
func markUsed(path string, last, now time.Time) {
	if now.Sub(last) >= UseResolution {
		_ = os.Chtimes(path, now, now)
	}
}

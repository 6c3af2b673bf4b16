package web

import (
	"cmp"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// userFileInfo is what the editor wants to know about a file.
type userFileInfo struct {
	Path     string  `json:"path"`
	Size     int64   `json:"size"`
	Modified seconds `json:"modified"`
	Created  seconds `json:"created"`
}

func newUserFileInfo(name string, info fs.FileInfo) userFileInfo {
	return userFileInfo{filepath.ToSlash(name), info.Size(), seconds(info.ModTime().UnixNano()), created(info)}
}

// flag reads a parameter that only the word true sets, in any case of letters.
func flag(c *gin.Context, name string) bool { return strings.EqualFold(c.Query(name), "true") }

// listUserData answers GET /userdata: the files of one directory of the user.
func (s *Server) listUserData(c *gin.Context) {
	id, err := s.user(c)
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	if c.Query("dir") == "" {
		answerText(c, http.StatusBadRequest, "Directory not provided")
		return
	}
	dir, err := inside(c.Query("dir"))
	if err != nil {
		answerText(c, http.StatusForbidden, "Invalid directory")
		return
	}
	files, err := s.userFiles(id, dir, listing{recurse: flag(c, "recurse")})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		answerText(c, http.StatusNotFound, "Directory not found")
	case err != nil:
		answerText(c, http.StatusForbidden, "Invalid directory")
	default:
		s.answerJSON(c, http.StatusOK, userList(files, flag(c, "full_info"), flag(c, "split")))
	}
}

// userFiles lists a directory of a user; a file has no entries.
func (s *Server) userFiles(id, dir string, l listing) ([]listed, error) {
	root, err := s.userRoot(id, false)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(dir)
	if err != nil || !info.IsDir() {
		return nil, err
	}
	l.root = root
	return l.list(dir)
}

// userList shows files as the client wants them: names, lists of a name and its parts, or all that is known.
func userList(files []listed, full, split bool) []any {
	out := []any{}
	for _, f := range files {
		name := filepath.ToSlash(f.name)
		switch {
		case full:
			out = append(out, newUserFileInfo(f.name, f.info))
		case split:
			out = append(out, append([]string{name}, strings.Split(name, "/")...))
		default:
			out = append(out, name)
		}
	}
	return out
}

// treeEntry is a file or a directory in GET /v2/userdata.
type treeEntry struct {
	Name     string   `json:"name"`
	Path     string   `json:"path"`
	Type     string   `json:"type"`
	Size     *int64   `json:"size,omitempty"`
	Modified *seconds `json:"modified,omitempty"`
}

// listUserTree answers GET /v2/userdata: all that is below a directory of the user.
func (s *Server) listUserTree(c *gin.Context) {
	id, err := s.user(c)
	if err != nil {
		answerText(c, http.StatusForbidden, "Invalid user specified in request")
		return
	}
	dir, err := inside(unescapeAgain(c.Query("path")))
	if err != nil {
		answerText(c, http.StatusBadRequest, "Invalid path requested")
		return
	}
	root, err := s.userRoot(id, false)
	if err != nil {
		s.answerMissingTree(c, dir)
		return
	}
	defer root.Close()
	info, err := root.Stat(dir)
	switch {
	case err != nil:
		s.answerMissingTree(c, dir)
	case !info.IsDir():
		answerText(c, http.StatusBadRequest, "Requested path is not a directory")
	default:
		s.answerTree(c, root, dir)
	}
}

// answerMissingTree answers about a directory that is not there: a user's own is empty as long as nothing is stored.
func (s *Server) answerMissingTree(c *gin.Context, dir string) {
	if dir == "." {
		s.answerJSON(c, http.StatusOK, []treeEntry{})
		return
	}
	answerText(c, http.StatusNotFound, "Requested path not found")
}

func (s *Server) answerTree(c *gin.Context, root *os.Root, dir string) {
	files, err := listing{root: root, recurse: true, dirs: true, dots: true}.list(dir)
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	entries := []treeEntry{}
	for _, f := range files {
		entries = append(entries, newTreeEntry(filepath.ToSlash(filepath.Join(dir, f.name)), f.info))
	}
	slices.SortStableFunc(entries, func(a, b treeEntry) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)))
	})
	s.answerJSON(c, http.StatusOK, entries)
}

func newTreeEntry(name string, info fs.FileInfo) treeEntry {
	if info.IsDir() {
		return treeEntry{Name: path.Base(name), Path: name, Type: "directory"}
	}
	size, modified := info.Size(), seconds(info.ModTime().UnixNano())
	return treeEntry{path.Base(name), name, "file", &size, &modified}
}

// unescapeAgain decodes a name that is still encoded: clients do it twice.
func unescapeAgain(name string) string {
	if decoded, err := url.PathUnescape(name); err == nil {
		return decoded
	}
	return name
}

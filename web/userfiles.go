package web

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/gin-gonic/gin"
)

// userTarget is a file in a user's folder. The caller closes the folder.
type userTarget struct {
	root *os.Root
	name string
}

// userTarget reads the path parameter of a request. False: the request is answered.
func (s *Server) userTarget(c *gin.Context, param string, create bool) (userTarget, bool) {
	id, err := s.user(c)
	if err != nil {
		s.answerTrouble(c, err)
		return userTarget{}, false
	}
	name, err := inside(unescapeAgain(c.Param(param)))
	if err != nil || name == "." {
		answerEmpty(c, http.StatusForbidden)
		return userTarget{}, false
	}
	root, err := s.userRoot(id, create)
	if errors.Is(err, fs.ErrNotExist) {
		answerEmpty(c, http.StatusNotFound)
		return userTarget{}, false
	}
	if err != nil {
		s.answerTrouble(c, err)
		return userTarget{}, false
	}
	return userTarget{root, name}, true
}

// userFile answers with a file of the user.
func (s *Server) userFile(c *gin.Context) {
	t, ok := s.userTarget(c, "file", false)
	if !ok {
		return
	}
	defer t.root.Close()
	file, info, err := openFile(t.root, t.name)
	if err != nil {
		answerEmpty(c, http.StatusNotFound)
		return
	}
	defer file.Close()
	sendStored(c, file, info, contentType(t.name))
}

// storeUserFile writes the body to a file of the user.
func (s *Server) storeUserFile(c *gin.Context) {
	t, ok := s.userTarget(c, "file", true)
	if !ok {
		return
	}
	defer t.root.Close()
	if c.Query("overwrite") == "false" && exists(t.root, t.name) {
		answerText(c, http.StatusConflict, "File already exists")
		return
	}
	if err := replaceFile(t.root, t.name, c.Request.Body); err != nil {
		s.answerUnwritten(c, err)
		return
	}
	s.answerUserFile(c, t)
}

// answerUnwritten answers for a file that the system did not take.
func (s *Server) answerUnwritten(c *gin.Context, err error) {
	if refused := fileRefusal(0); !errors.As(writeRefusal(err), &refused) {
		s.answerTrouble(c, fmt.Errorf("write user file: %w", err))
		return
	}
	answerText(c, http.StatusBadRequest, "This file name cannot be used")
}

// answerUserFile answers with the path of a file that was written, or all that is known of it.
func (s *Server) answerUserFile(c *gin.Context, t userTarget) {
	info, err := t.root.Stat(t.name)
	switch {
	case err != nil:
		s.answerTrouble(c, err)
	case flag(c, "full_info"):
		s.answerJSON(c, http.StatusOK, newUserFileInfo(t.name, info))
	default:
		s.answerJSON(c, http.StatusOK, filepath.ToSlash(t.name))
	}
}

// deleteUserFile removes a file; a folder is an error, as it is in ComfyUI.
func (s *Server) deleteUserFile(c *gin.Context) {
	t, ok := s.userTarget(c, "file", false)
	if !ok {
		return
	}
	defer t.root.Close()
	info, err := t.root.Lstat(t.name)
	switch {
	case err != nil:
		answerEmpty(c, http.StatusNotFound)
		return
	case info.IsDir():
		s.answerTrouble(c, fmt.Errorf("delete %s: it is a folder", t.name))
		return
	}
	if err := t.root.Remove(t.name); err != nil {
		s.answerTrouble(c, err)
		return
	}
	answerEmpty(c, http.StatusNoContent)
}

// moveUserFile gives a file of the user another name.
func (s *Server) moveUserFile(c *gin.Context) {
	from, ok := s.userTarget(c, "file", false)
	if !ok {
		return
	}
	defer from.root.Close()
	if !exists(from.root, from.name) {
		answerEmpty(c, http.StatusNotFound)
		return
	}
	to, ok := s.userTarget(c, "dest", false)
	if !ok {
		return
	}
	defer to.root.Close()
	if c.Query("overwrite") == "false" && exists(to.root, to.name) {
		answerText(c, http.StatusConflict, "File already exists")
		return
	}
	if err := move(from, to); err != nil {
		s.answerUnwritten(c, err)
		return
	}
	s.answerUserFile(c, to)
}

func move(from, to userTarget) error {
	if err := to.root.MkdirAll(filepath.Dir(to.name), 0o755); err != nil {
		return err
	}
	return to.root.Rename(from.name, to.name)
}

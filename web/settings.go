package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
)

const settingsFile = "comfy.settings.json"

// settings answers with all settings of a user.
func (s *Server) settings(c *gin.Context) {
	if all, ok := s.readSettings(c); ok {
		s.answerJSON(c, http.StatusOK, all)
	}
}

// setting answers with one of them, null if it was never set.
func (s *Server) setting(c *gin.Context) {
	if all, ok := s.readSettings(c); ok {
		s.answerJSON(c, http.StatusOK, all.get(c.Param("id")))
	}
}

func (s *Server) readSettings(c *gin.Context) (object, bool) {
	id, ok := s.settingsUser(c)
	if !ok {
		return nil, false
	}
	root, err := s.userRoot(id, false)
	if errors.Is(err, os.ErrNotExist) {
		return object{}, true
	}
	if err != nil {
		s.answerTrouble(c, err)
		return nil, false
	}
	defer root.Close()
	return loadSettings(root), true
}

// loadSettings reads a user's settings. As in ComfyUI, a file that is missing or broken holds none.
func loadSettings(root *os.Root) object {
	data, err := root.ReadFile(settingsFile)
	if err != nil {
		return object{}
	}
	all := object{}
	if json.Unmarshal(data, &all) != nil {
		return object{}
	}
	return all
}

// settingsUser is the user of a request about settings; an unknown one gets status 401.
func (s *Server) settingsUser(c *gin.Context) (string, bool) {
	id, err := s.user(c)
	switch {
	case errors.Is(err, errUser):
		answerText(c, http.StatusUnauthorized, "401: Unauthorized")
	case err != nil:
		s.answerTrouble(c, err)
	}
	return id, err == nil
}

// changeSettings sets those that the body has.
func (s *Server) changeSettings(c *gin.Context) {
	id, ok := s.settingsUser(c)
	if !ok {
		return
	}
	var changes object
	if err := bodyJSON(c, &changes); err != nil {
		s.answerTrouble(c, err)
		return
	}
	s.applySettings(c, id, changes)
}

// changeSetting sets one; the body is its value.
func (s *Server) changeSetting(c *gin.Context) {
	id, ok := s.settingsUser(c)
	if !ok {
		return
	}
	var value json.RawMessage
	if err := bodyJSON(c, &value); err != nil {
		s.answerTrouble(c, err)
		return
	}
	s.applySettings(c, id, object{{c.Param("id"), value}})
}

func (s *Server) applySettings(c *gin.Context, id string, changes object) {
	s.settingsLock.Lock()
	defer s.settingsLock.Unlock()
	root, err := s.userRoot(id, true)
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	defer root.Close()
	all := loadSettings(root)
	for _, m := range changes {
		all.set(m.Key, m.Value)
	}
	if err := writeObject(root, settingsFile, all); err != nil {
		s.answerTrouble(c, fmt.Errorf("write settings: %w", err))
		return
	}
	answerEmpty(c, http.StatusOK)
}

// writeObject writes a JSON file as Python's json.dump with an indent of 4 does.
func writeObject(root *os.Root, name string, o object) error {
	data, err := asciiJSON(o)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", pythonIndent); err != nil {
		return err
	}
	return replaceFile(root, name, &out)
}

package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
)

const (
	defaultUser  = "default"
	usersFile    = "users.json"
	userHeader   = "Comfy-User"
	maxUserName  = 100   // bytes of an id before its number
	maxUsers     = 10000 // that can be made through the API
	pythonIndent = "    "
)

// errUser says that a request names no user that there is.
var errUser = errors.New("unknown user")

func (s *Server) userRoutes() {
	api := s.api()
	api.get("/users", read, s.listUsers)
	api.post("/users", submit, s.addUser)
	api.get("/settings", read, s.settings)
	api.get("/settings/:id", read, s.setting)
	api.post("/settings", submit, s.changeSettings)
	api.post("/settings/:id", submit, s.changeSetting)
	api.get("/userdata", read, s.listUserData)
	api.get("/v2/userdata", read, s.listUserTree)
	api.get("/userdata/:file", read, s.userFile)
	api.post("/userdata/:file", submit, s.storeUserFile)
	api.handle(http.MethodDelete, "/userdata/:file", submit, s.deleteUserFile)
	api.post("/userdata/:file/move/:dest", submit, s.moveUserFile)
}

// listUsers tells the editor whether to ask who is there.
func (s *Server) listUsers(c *gin.Context) {
	root, err := s.users.open()
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	if !s.MultiUser {
		s.answerJSON(c, http.StatusOK, struct {
			Storage  string `json:"storage"`
			Migrated bool   `json:"migrated"`
		}{"server", exists(root, defaultUser)})
		return
	}
	users, err := readUsers(root)
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	s.answerJSON(c, http.StatusOK, struct {
		Storage string `json:"storage"`
		Users   object `json:"users"`
	}{"server", users})
}

// readUsers reads the table of ids and names.
func readUsers(root *os.Root) (object, error) {
	data, err := root.ReadFile(usersFile)
	if errors.Is(err, fs.ErrNotExist) {
		return object{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	var users object
	if err := json.Unmarshal(data, &users); err != nil {
		return nil, fmt.Errorf("read users: %w", err)
	}
	return users, nil
}

// addUser makes a user and answers with its id.
func (s *Server) addUser(c *gin.Context) {
	var request struct {
		Username string `json:"username"`
	}
	if err := bodyJSON(c, &request); err != nil {
		s.answerTrouble(c, err)
		return
	}
	name := strings.TrimSpace(request.Username)
	if name == "" {
		s.answerTrouble(c, errors.New("add user: the name is blank"))
		return
	}
	id, err := s.makeUser(name)
	switch {
	case errors.Is(err, fs.ErrExist):
		s.answerJSON(c, http.StatusBadRequest, gin.H{"error": "Duplicate username."})
	case err != nil:
		s.answerTrouble(c, err)
	default:
		s.answerJSON(c, http.StatusOK, id)
	}
}

func (s *Server) makeUser(name string) (string, error) {
	root, err := s.users.open()
	if err != nil {
		return "", err
	}
	s.settingsLock.Lock()
	defer s.settingsLock.Unlock()
	users, err := readUsers(root)
	if err != nil {
		return "", err
	}
	encoded, err := asciiJSON(name)
	if err != nil {
		return "", err
	}
	for _, u := range users {
		if string(escapeASCII(u.Value)) == string(encoded) {
			return "", fmt.Errorf("add user: %w", fs.ErrExist)
		}
	}
	if len(users) >= maxUsers {
		return "", fmt.Errorf("add user: there are %d already", len(users))
	}
	id := userID(name)
	users.set(id, encoded)
	return id, writeObject(root, usersFile, users)
}

// userID makes an id of a name: what is no letter, digit, dash or underscore becomes a dash, and a number makes it unique.
func userID(name string) string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, name)
	return plain[:min(len(plain), maxUserName)] + "_" + uuid.NewString()
}

// user is the id whose settings and files a request is about. With one user, the header does not count.
func (s *Server) user(c *gin.Context) (string, error) {
	if !s.MultiUser {
		return defaultUser, nil
	}
	root, err := s.users.open()
	if err != nil {
		return "", err
	}
	users, err := readUsers(root)
	if err != nil {
		return "", err
	}
	id := c.GetHeader(userHeader)
	for _, u := range users {
		if u.Key == id && userIDFits(id) {
			return id, nil
		}
	}
	return "", errUser
}

// userIDFits keeps a users.json that somebody wrote from naming a folder elsewhere.
func userIDFits(id string) bool {
	name, err := inside(id)
	return err == nil && name == id && name != "." && !strings.ContainsAny(id, `/\`)
}

// userRoot opens a user's folder and makes it if it is wanted and missing. The caller closes it.
func (s *Server) userRoot(id string, create bool) (*os.Root, error) {
	root, err := s.users.open()
	if err != nil {
		return nil, err
	}
	if create {
		if err := root.MkdirAll(id, 0o755); err != nil {
			return nil, fmt.Errorf("make user folder: %w", err)
		}
	}
	return root.OpenRoot(id)
}

// bodyJSON reads a request's body, whatever its content type says.
func bodyJSON(c *gin.Context, v any) error {
	data, err := io.ReadAll(c.Request.Body)
	if err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read body: %w", err)
	}
	return nil
}

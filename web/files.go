package web

import (
	"errors"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// The types of files that clients name.
const (
	inputFolder  = "input"
	outputFolder = "output"
	tempFolder   = "temp"
)

func (s *Server) fileRoutes() {
	api := s.api()
	api.get("/view", read, s.view)
	api.get("/view_metadata/:folder", read, s.viewMetadata)
	api.post("/upload/image", submit, s.uploadImage)
	api.post("/upload/mask", submit, s.uploadMask)
	s.bare().get("/internal/files/:type", read, s.listFiles)
}

// fileRefusal is a status without a body that a client's reference to a file deserves.
type fileRefusal int

// Error names the status.
func (r fileRefusal) Error() string { return "refused: " + http.StatusText(int(r)) }

// reference is how clients name a file: a name that may end in its type ("x.png [input]"), the type if it does not, and
// a subfolder.
type reference struct {
	Filename  string `json:"filename"`
	Subfolder string `json:"subfolder"`
	Type      string `json:"type"`
}

// cutAnnotation takes the type off a name's end. It goes with the one character before it.
func cutAnnotation(name string) (rest, kind string) {
	for _, kind := range []string{outputFolder, inputFolder, tempFolder} {
		if bare, ok := strings.CutSuffix(name, "["+kind+"]"); ok {
			return bare[:max(len(bare)-1, 0)], kind
		}
	}
	return name, ""
}

// locate turns a reference into a name below the folder of a type. Only the last part of the filename counts. The error
// is a fileRefusal.
func (r reference) locate() (kind, name string, err error) {
	filename, kind := cutAnnotation(r.Filename)
	if filename == "" || filename[0] == '/' || strings.Contains(filename, "..") {
		return "", "", fileRefusal(http.StatusBadRequest)
	}
	if kind == "" {
		kind = r.Type
	}
	if !fileType(kind) {
		return "", "", fileRefusal(http.StatusBadRequest)
	}
	name, err = inside(r.Subfolder, path.Base(filename))
	if err != nil {
		return "", "", fileRefusal(http.StatusForbidden)
	}
	return kind, name, nil
}

func fileType(kind string) bool {
	return kind == inputFolder || kind == outputFolder || kind == tempFolder
}

// query reads the reference of GET /view.
func fileQuery(c *gin.Context) (reference, error) {
	filename, ok := c.GetQuery("filename")
	if !ok {
		return reference{}, fileRefusal(http.StatusNotFound)
	}
	return reference{filename, c.Query("subfolder"), c.DefaultQuery("type", outputFolder)}, nil
}

// listFiles lists the files of a type's folder, the newest first.
func (s *Server) listFiles(c *gin.Context) {
	dir, ok := s.folders[c.Param("type")]
	if !ok {
		s.answerJSON(c, http.StatusBadRequest, gin.H{"error": "Invalid directory type"})
		return
	}
	root, err := dir.open()
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	files, err := listing{root: root}.list(".")
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	slices.SortStableFunc(files, func(a, b listed) int { return b.info.ModTime().Compare(a.info.ModTime()) })
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = filepath.ToSlash(f.name)
	}
	s.answerJSON(c, http.StatusOK, names)
}

// answerFileError answers with the status of a fileRefusal, or 500 for any other error.
func (s *Server) answerFileError(c *gin.Context, err error) {
	var status fileRefusal
	if errors.As(err, &status) {
		answerEmpty(c, int(status))
		return
	}
	s.answerTrouble(c, err)
}

package web

import (
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// editorPage answers "/" with the page of ComfyUI's editor, which browsers must ask for each time.
func (s *Server) editorPage(c *gin.Context) {
	c.Header("Cache-Control", noCache)
	c.Header("Pragma", noCache)
	c.Header("Expires", "0")
	s.sendEditor(c, "index.html")
}

// editorFile answers a path that no route takes with the editor's file of that name.
func (s *Server) editorFile(c *gin.Context) {
	name, err := inside(strings.TrimPrefix(c.Request.URL.Path, "/"))
	if err != nil || strings.HasSuffix(c.Request.URL.Path, "/") || hidden(name) {
		notFound(c)
		return
	}
	s.sendEditor(c, name)
}

func (s *Server) sendEditor(c *gin.Context, name string) {
	if s.editor.dir == "" {
		notFound(c)
		return
	}
	root, err := s.editor.open()
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	file, info, err := openFile(root, name)
	if err != nil {
		notFound(c)
		return
	}
	defer file.Close()
	sendFile(c, file, info, contentType(name))
}

// hidden reports whether a part of a path begins with a dot.
func hidden(name string) bool {
	return slices.ContainsFunc(strings.Split(strings.ReplaceAll(name, "\\", "/"), "/"), func(part string) bool {
		return strings.HasPrefix(part, ".") && part != "."
	})
}

// extensions lists the scripts that the editor loads at its start.
func (s *Server) extensions(c *gin.Context) {
	scripts := []string{}
	if s.editor.dir != "" {
		root, err := s.editor.open()
		if err != nil {
			s.answerTrouble(c, err)
			return
		}
		fs.WalkDir(root.FS(), "extensions", func(name string, entry fs.DirEntry, err error) error {
			if err == nil && !entry.IsDir() && path.Ext(name) == ".js" {
				scripts = append(scripts, "/"+name)
			}
			return nil // what cannot be read is left out
		})
	}
	s.answerJSON(c, http.StatusOK, scripts)
}

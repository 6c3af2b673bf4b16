package web

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"
)

// missing answers a request that no route takes: with a file of the editor if there is one, and else as ComfyUI does,
// whose last route is a folder of files that knows GET and HEAD.
func (s *Server) missing(c *gin.Context) {
	path := c.Request.URL.Path
	switch get := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead; {
	case strings.HasPrefix(path, "//"), strings.HasPrefix(path, "/internal/"):
		answerText(c, http.StatusNotFound, "404: Not Found")
	case !get:
		notAllowed(c, nil)
	default:
		s.editorFile(c)
	}
}

// wrongMethod answers a request whose path has routes for other methods only.
func (s *Server) wrongMethod(c *gin.Context) {
	allowed := strings.FieldsFunc(c.Writer.Header().Get("Allow"), func(r rune) bool { return r == ',' || r == ' ' })
	c.Writer.Header().Del("Allow")
	get := c.Request.Method == http.MethodGet || c.Request.Method == http.MethodHead
	if get && !strings.HasPrefix(c.Request.URL.Path, "/internal/") {
		s.missing(c)
		return
	}
	notAllowed(c, allowed)
}

// notAllowed lists the methods of a path, those of the folder of files included.
func notAllowed(c *gin.Context, methods []string) {
	if !strings.HasPrefix(c.Request.URL.Path, "/internal/") {
		methods = append(methods, http.MethodGet, http.MethodHead)
	}
	slices.Sort(methods)
	c.Header("Allow", strings.Join(slices.Compact(methods), ","))
	answerText(c, http.StatusMethodNotAllowed, "405: Method Not Allowed")
}

// notFound answers as the folder of files does.
func notFound(c *gin.Context) {
	c.Header("Content-Type", "application/octet-stream")
	answerEmpty(c, http.StatusNotFound)
}

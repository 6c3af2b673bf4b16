package web

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
)

// sendStored answers with a file that a client may have put there: opened on its own, a stored picture or page must not
// act as a page of ours.
func sendStored(c *gin.Context, file *os.File, info fs.FileInfo, kind string) {
	if scripted(kind) {
		c.Header("Content-Security-Policy", "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	}
	sendFile(c, file, info, kind)
}

// sendFile answers with a file's content, or a range of it, or that it has not changed. The header may hold more already.
func sendFile(c *gin.Context, file *os.File, info fs.FileInfo, kind string) {
	c.Header("Content-Type", kind)
	c.Header("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()))
	http.ServeContent(&fileWriter{c.Writer, kind, false}, c.Request, "", info.ModTime(), file)
	c.Abort()
}

// fileWriter leaves out the text that http.ServeContent has for a range outside of the file; ComfyUI sends none, under
// the type of the file.
type fileWriter struct {
	gin.ResponseWriter
	kind   string
	silent bool
}

// WriteHeader takes note of the status.
func (w *fileWriter) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable {
		w.silent = true
		w.Header().Set("Content-Type", w.kind)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write sends a piece of the file.
func (w *fileWriter) Write(p []byte) (int, error) {
	if w.silent {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

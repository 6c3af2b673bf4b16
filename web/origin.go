package web

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gin-gonic/gin"
)

// cross keeps the pages of other sites from calling a server on loopback, or, with Options.CORS, tells browsers that
// they may. Every OPTIONS request that passes is answered here. It covers the socket too, which begins as a GET.
func (s *Server) cross(c *gin.Context) {
	switch {
	case s.CORS != "":
		c.Header("Access-Control-Allow-Origin", s.CORS)
		c.Header("Access-Control-Allow-Methods", "POST, GET, DELETE, PUT, OPTIONS")
		c.Header("Access-Control-Allow-Headers", "Content-Type, Authorization")
		c.Header("Access-Control-Allow-Credentials", "true")
	case foreign(c.Request):
		answerEmpty(c, http.StatusForbidden)
		return
	}
	if c.Request.Method == http.MethodOptions {
		c.Writer.Header().Del("Allow") // which the router has for a path that has routes
		answerEmpty(c, http.StatusOK)
	}
}

// foreign reports whether a page of another origin sends the request to a loopback name. Hosts of other names are not
// checked: a proxy in front may have rewritten them. Names are compared as text and without case; a port counts
// when both sides have one; the scheme does not matter, and an origin without a name ("null") passes.
func foreign(r *http.Request) bool {
	origin, err := url.Parse(strings.ToLower(r.Header.Get("Origin")))
	if err != nil {
		return true
	}
	host, err := url.Parse("//" + strings.ToLower(r.Host))
	if err != nil {
		return r.Header.Get("Origin") != ""
	}
	if origin.Hostname() == "" || !loopback(host.Hostname()) {
		return false
	}
	if origin.Port() == "" || host.Port() == "" {
		return origin.Hostname() != host.Hostname()
	}
	return origin.Host != host.Host
}

// loopback reports whether a host name leads to this machine by what it says; nobody is asked.
func loopback(name string) bool {
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().IsLoopback()
	}
	name = strings.TrimSuffix(name, ".")
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

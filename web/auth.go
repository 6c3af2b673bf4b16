package web

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/web/auth"
)

// tokenCookie holds the token of a browser that has logged in. Scripts cannot read it and other sites cannot have it
// sent, so that pages, pictures and sockets of ComfyUI's editor work without a token in any URL.
const tokenCookie = "comfyrun_token"

// identityKey is where allow leaves whose token a request has.
const identityKey = "comfyrun identity"

// identity is whose token the request has; false: it needs none.
func identity(c *gin.Context) (auth.Identity, bool) {
	v, _ := c.Get(identityKey)
	who, known := v.(auth.Identity)
	return who, known
}

// credential is the token that a request brings: of its Authorization header, or of a browser's cookie; "": none.
func credential(r *http.Request) string {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return ""
		}
		return strings.TrimSpace(token)
	}
	if cookie, err := r.Cookie(tokenCookie); err == nil {
		return cookie.Value
	}
	return ""
}

// authState is what a server knows of who asks.
type authState struct {
	guesses auth.Limiter
	quotas  sync.Mutex       // held from counting a token's prompts to submitting one more
	scopes  map[string]scope // of every route, by METHOD PATH
}

// allow lets a request pass whose token has the scope.
func (s *Server) allow(needs scope) gin.HandlerFunc {
	return func(c *gin.Context) {
		if s.Tokens == nil || needs == open {
			c.Next()
			return
		}
		who, err := s.recognize(c.Request, credential(c.Request))
		if err == nil && who.Scope < needs {
			err = refused("forbidden", fmt.Sprintf("The token %q is for %s; this needs %s.", who.Name, who.Scope, needs), "").with(http.StatusForbidden, 0)
		}
		if err != nil {
			s.turnAway(c, err)
			return
		}
		c.Set(identityKey, who)
		c.Next()
	}
}

// turnAway answers who may not.
func (s *Server) turnAway(c *gin.Context, err error) {
	if rejectionOf(err).status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", `Bearer realm="comfyrun"`)
	}
	c.Header("Cache-Control", "no-store")
	s.refuse(c, err)
}

// recognize finds out whose token it is. An address that has guessed too often is not told whether a token is right. The
// error is a *rejection.
func (s *Server) recognize(r *http.Request, token string) (auth.Identity, error) {
	if token == "" {
		s.Metrics.AuthFailure("missing")
		return auth.Identity{}, refused("unauthorized", "This server needs a token.", "Send Authorization: Bearer TOKEN, or log in at /login.").
			with(http.StatusUnauthorized, 0)
	}
	from := peer(r)
	who, known := s.Tokens.Find(token)
	if wait := s.guesses.Wait(from); wait > 0 && !(known && s.guesses.Known(from, who.Name)) {
		s.Metrics.AuthFailure("throttled")
		return auth.Identity{}, refused("too_many_attempts", "Too many wrong tokens came from this address.", "").
			with(http.StatusTooManyRequests, max(1, int(math.Ceil(wait.Seconds()))))
	}
	if !known {
		s.guesses.Failed(from)
		s.Metrics.AuthFailure("unknown")
		s.Log.Warn("wrong token", "address", from.String(), "path", r.URL.Path)
		return auth.Identity{}, refused("unauthorized", "This token is not known.", "").with(http.StatusUnauthorized, 0)
	}
	s.guesses.Succeeded(from, who.Name)
	return who, nil
}

// peer is the address at the other end of the connection; what headers say of it anybody can write.
func peer(r *http.Request) netip.Addr {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.IPv6Unspecified()
	}
	return at.Addr()
}

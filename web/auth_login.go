package web

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// loginRoutes let a browser exchange a token for a cookie.
func (s *Server) loginRoutes() {
	bare := s.bare()
	bare.get("/login", open, s.loginPage)
	bare.post("/login", open, s.login)
	bare.post("/logout", open, s.logout)
}

const loginForm = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>comfyrun</title>
<style>body{font:16px system-ui,sans-serif;max-width:24rem;margin:15vh auto;padding:0 1rem}input,button{font:inherit;padding:.4rem;width:100%;box-sizing:border-box;margin:.3rem 0}</style>
<h1>comfyrun</h1><form method="post" action="/login"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus><button>Log in</button></form></html>
`

func (s *Server) loginPage(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	answerBytes(c, http.StatusOK, "text/html; charset=utf-8", []byte(loginForm))
}

const (
	cookieLife   = 30 * 24 * 60 * 60 // seconds
	longestLogin = 4096              // bytes of the form
)

// login sets the cookie of a token that is known. The token comes in the body, so that it stands in no log and no history.
func (s *Server) login(c *gin.Context) {
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, longestLogin)
	token := strings.TrimSpace(c.PostForm("token"))
	if s.Tokens != nil {
		if _, err := s.recognize(c.Request, token); err != nil {
			s.turnAway(c, err)
			return
		}
		s.setCookie(c, token, cookieLife)
	}
	c.Redirect(http.StatusSeeOther, "/")
}

func (s *Server) logout(c *gin.Context) {
	s.setCookie(c, "", -1)
	c.Redirect(http.StatusSeeOther, "/login")
}

func (s *Server) setCookie(c *gin.Context, value string, age int) {
	http.SetCookie(c.Writer, &http.Cookie{Name: tokenCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true,
		Secure: c.Request.TLS != nil || c.GetHeader("X-Forwarded-Proto") == "https", SameSite: http.SameSiteStrictMode})
}

// askLogin sends a browser that opens the page without a token to the form; the page would show it nothing but errors.
func (s *Server) askLogin(c *gin.Context) {
	r := c.Request
	page := r.URL.Path == "/" || r.URL.Path == "/comfyrun/"
	if s.Tokens == nil || r.Method != http.MethodGet || !page || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		return
	}
	if token := credential(r); token != "" {
		// As everywhere: whether this leads to the form must not tell a guesser more than the limit allows.
		if _, err := s.recognize(r, token); err == nil {
			return
		}
	}
	c.Header("Cache-Control", "no-store")
	c.Redirect(http.StatusSeeOther, "/login")
	c.Abort()
}

package web

import (
	"time"

	"github.com/gin-gonic/gin"
)

// measure counts requests by the route that took them. It is the first of all, so that it sees every answer.
func (s *Server) measure(c *gin.Context) {
	if s.Metrics == nil {
		return
	}
	start := time.Now()
	defer func() {
		took := time.Since(start)
		if c.IsWebsocket() {
			took = -1
		}
		s.Metrics.Request(c.FullPath(), c.Request.Method, c.Writer.Status(), took)
	}()
	c.Next()
}

// openSockets counts the sockets of this process.
func (h *hub) openSockets() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.open)
}

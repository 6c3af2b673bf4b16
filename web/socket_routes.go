package web

import (
	"cmp"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

// socketState is what sockets need.
type socketState struct {
	hub     *hub
	buffers sync.Pool // to write to sockets with
}

// openHub starts the hub, and shows the log to those who want it.
func (s *Server) openHub() (err error) {
	if s.hub, err = newHub(s.Queue); err != nil {
		return err
	}
	s.logs.Listen(func(e LogEntry) {
		if sids := s.logReaders.all(); len(sids) > 0 {
			s.hub.post(sids, jsonMessage("logs", newLogMessage([]LogEntry{e})))
		}
	})
	return nil
}

// closeHub ends all sockets.
func (s *Server) closeHub() {
	s.logs.Listen(nil)
	s.hub.close()
}

// socketRoutes registers the socket, and what it tells of the server.
func (s *Server) socketRoutes() {
	api := s.api()
	api.handle(http.MethodGet, "/ws", read, s.openSocket)
	api.get("/features", read, s.getFeatures)
}

// longestSID is what the queue takes as a client's id.
const longestSID = 1024

// openSocket makes a socket of the connection.
func (s *Server) openSocket(c *gin.Context) {
	if !websocket.IsWebSocketUpgrade(c.Request) {
		answerText(c, http.StatusBadRequest, "No WebSocket UPGRADE hdr: "+cmp.Or(c.GetHeader("Upgrade"), "None")+"\n Can \"Upgrade\" only to \"WebSocket\".")
		return
	}
	sid := c.Query("clientId")
	if sid == "" {
		sid = strings.ReplaceAll(uuid.NewString(), "-", "")
	}
	if len(sid) > longestSID {
		answerText(c, http.StatusBadRequest, "400: Bad Request: clientId is too long")
		return
	}
	conn, err := s.upgrader().Upgrade(c.Writer, c.Request, nil)
	if err != nil {
		return // it has answered
	}
	c.Abort()
	s.hub.checkRunning(c.Request.Context(), sid)
	s.hub.serve(newSocket(sid, conn, s.features()))
}

// upgrader leaves the check of the origin to the middleware, which does it for all routes.
func (s *Server) upgrader() *websocket.Upgrader {
	return &websocket.Upgrader{
		HandshakeTimeout: 10 * time.Second,
		ReadBufferSize:   1 << 10,
		WriteBufferSize:  4 << 10,
		WriteBufferPool:  &s.buffers,
		CheckOrigin:      func(*http.Request) bool { return true },
	}
}

// serve runs a socket in goroutines of its own.
func (h *hub) serve(s *socket) {
	if !h.add(s) {
		s.end(goingAway)
		s.write()
		return
	}
	go func() {
		defer h.behind.Done()
		s.read()
		h.remove(s)
	}()
	go func() {
		defer h.behind.Done()
		s.write()
	}()
}

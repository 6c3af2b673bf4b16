package web

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine"
)

// objectInfo describes all node types, with the choices of this moment.
func (s *Server) objectInfo(c *gin.Context) {
	s.answerJSON(c, http.StatusOK, engine.ObjectInfo(s.Catalog()))
}

// objectInfoOf describes one node type; an unknown one is no error.
func (s *Server) objectInfoOf(c *gin.Context) {
	out := engine.Members{}
	if t, ok := s.Catalog().Type(c.Param("class")); ok {
		out = append(out, engine.Member{Key: t.Class, Value: t.Info()})
	}
	s.answerJSON(c, http.StatusOK, out)
}

package web

import (
	"net/http"

	"github.com/gin-gonic/gin"
)

// features are what GET /features answers, and what a socket gets that tells its own.
type features struct {
	PreviewMetadata bool  `json:"supports_preview_metadata"`
	MaxUpload       int64 `json:"max_upload_size"` // bytes
}

func (s *Server) features() features { return features{true, s.MaxUpload} }

func (s *Server) getFeatures(c *gin.Context) { s.answerJSON(c, http.StatusOK, s.features()) }

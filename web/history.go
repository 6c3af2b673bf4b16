package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/queue"
)

// historyEntry is a finished prompt: the queue's item, and what the worker recorded ("outputs", "meta", "status").
func historyEntry(e queue.Entry) (json.RawMessage, error) {
	prompt, err := asciiJSON(item(e.Info, e.Prompt))
	if err != nil {
		return nil, err
	}
	result := bytes.TrimSpace(e.Result)
	if len(result) <= len("{}") || result[0] != '{' {
		if result, err = asciiJSON(noResult(e.Info)); err != nil {
			return nil, err
		}
	}
	out := append([]byte(`{"prompt":`), prompt...)
	return append(append(out, ','), result[1:]...), nil
}

// noResult is the result of a prompt that ended without one, because it took its worker with it.
func noResult(i queue.Info) engine.Members {
	messages := []any{}
	if i.Error != "" {
		messages = append(messages, []any{"execution_error", gin.H{"prompt_id": i.ID, "exception_message": i.Error,
			"exception_type": "", "traceback": []string{}, "timestamp": i.Finished.UnixMilli()}})
	}
	status := gin.H{"status_str": "error", "completed": false, "messages": messages}
	return engine.Members{{Key: "outputs", Value: gin.H{}}, {Key: "status", Value: status}, {Key: "meta", Value: gin.H{}}}
}

// getHistory lists finished prompts, the oldest first.
func (s *Server) getHistory(c *gin.Context) {
	var page queue.Page
	for name, into := range map[string]**int{"max_items": &page.MaxItems, "offset": &page.Offset} {
		if text, ok := c.GetQuery(name); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				answerText(c, http.StatusInternalServerError, trouble)
				return
			}
			*into = &n
		}
	}
	entries, err := s.Queue.History(c.Request.Context(), page)
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	s.answerHistory(c, entries)
}

// getHistoryEntry shows one finished prompt, or nothing. One that was cancelled while it waited has left no trace.
func (s *Server) getHistoryEntry(c *gin.Context) {
	e, ok, err := s.Queue.Entry(c.Request.Context(), c.Param("id"))
	switch {
	case err != nil:
		s.answerTrouble(c, err)
	case !ok || e.Attempts == 0:
		s.answerHistory(c, nil)
	default:
		s.answerHistory(c, []queue.Entry{e})
	}
}

func (s *Server) answerHistory(c *gin.Context, entries []queue.Entry) {
	out := make(object, 0, len(entries))
	for _, e := range entries {
		value, err := historyEntry(e)
		if err != nil {
			s.answerTrouble(c, err)
			return
		}
		out = append(out, member{e.ID, value})
	}
	data, err := out.MarshalJSON()
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	answerBytes(c, http.StatusOK, "application/json; charset=utf-8", escapeASCII(data))
}

// postHistory removes finished prompts.
func (s *Server) postHistory(c *gin.Context) {
	clear, ids, ok := s.change(c)
	if !ok {
		return
	}
	var err error
	if clear {
		err = s.Queue.ClearHistory(c.Request.Context())
	}
	if err == nil && len(ids) > 0 {
		err = s.Queue.DeleteHistory(c.Request.Context(), ids...)
	}
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	answerEmpty(c, http.StatusOK)
}

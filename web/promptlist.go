package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/queue"
)

// maxListed is how many prompts one page of a list holds at most.
const maxListed = 200

// promptList is a page of prompts.
type promptList struct {
	Prompts []promptResult `json:"prompts"`
	Total   int            `json:"total"`
	Offset  int            `json:"offset"`
	Limit   int            `json:"limit"`
}

// listPrompts answers GET /prompts: what has not ended in the order in which it runs (ended=false), or what has, the
// newest first (ended=true), with its outputs.
func (s *Server) listPrompts(c *gin.Context) {
	l := promptList{Limit: 50, Prompts: []promptResult{}}
	var ended bool
	var err error
	switch word := c.DefaultQuery("ended", "true"); word {
	case "true", "false":
		ended = word == "true"
	default:
		err = fmt.Errorf("ended is true or false, not %q", word)
	}
	for name, into := range map[string]*int{"limit": &l.Limit, "offset": &l.Offset} {
		if text, ok := c.GetQuery(name); ok && err == nil {
			*into, err = strconv.Atoi(text)
			if err != nil || *into < 0 {
				err = fmt.Errorf("%s is a number from 0, not %q", name, text)
			}
		}
	}
	if err != nil {
		s.deny(c, http.StatusBadRequest, "invalid_query", err.Error())
		return
	}
	l.Limit = min(l.Limit, maxListed)
	if ended {
		err = s.fillEnded(c, &l)
	} else {
		s.fillQueued(&l)
	}
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	s.answerJSON(c, http.StatusOK, l)
}

func (s *Server) fillQueued(l *promptList) {
	list := s.Queue.List()
	l.Total = len(list)
	from := min(l.Offset, len(list))
	for _, info := range list[from:min(from+l.Limit, len(list))] {
		r := s.standing(info)
		if info.State == queue.Queued {
			r.Ahead = &info.Ahead
		}
		l.Prompts = append(l.Prompts, r)
	}
}

func (s *Server) fillEnded(c *gin.Context, l *promptList) error {
	l.Total = s.Queue.Stats().History
	// The history counts from its oldest entry.
	last := l.Total - l.Offset
	first := max(last-l.Limit, 0)
	if last <= first {
		return nil
	}
	size := last - first
	entries, err := s.Queue.History(c.Request.Context(), queue.Page{MaxItems: &size, Offset: &first})
	if err != nil {
		return err
	}
	for _, e := range slices.Backward(entries) {
		l.Prompts = append(l.Prompts, s.ended(c.Request.Context(), e))
	}
	return nil
}

// promptWorkflow answers GET /prompt/ID/workflow with the workflow of a prompt, in the API format.
func (s *Server) promptWorkflow(c *gin.Context) {
	id := c.Param("id")
	graph, err := s.graphOf(c, id)
	switch {
	case err != nil:
		s.answerTrouble(c, err)
	case graph == nil:
		s.deny(c, http.StatusNotFound, "prompt_not_found", "there is no prompt of this id, or not any more")
	default:
		c.Header("Content-Disposition", fmt.Sprintf("attachment; filename=%q", headerText(id)+".json"))
		answerBytes(c, http.StatusOK, "application/json; charset=utf-8", escapeASCII(graph))
	}
}

func (s *Server) graphOf(c *gin.Context, id string) (json.RawMessage, error) {
	e, ok, err := s.Queue.Entry(c.Request.Context(), id)
	if err != nil || ok {
		return e.Prompt.Graph, err
	}
	info, err := s.Queue.Find(c.Request.Context(), id)
	if err != nil || info.State == queue.Unknown {
		return nil, err
	}
	prompts, err := s.Queue.Read(c.Request.Context(), []queue.Info{info})
	if err != nil || len(prompts) == 0 {
		return nil, err
	}
	return prompts[0].Graph, nil
}

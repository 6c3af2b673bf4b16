package web

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/workflows"
)

// item is a prompt in queue and history: number, id, graph, extra data and the outputs to execute.
func item(i queue.Info, p queue.Prompt) []any {
	extra := p.Extra
	if len(extra) == 0 {
		extra = json.RawMessage("{}")
	}
	return []any{numberText(i.Number, i.Assigned), i.ID, shownGraph(p.Graph), extra, append([]string{}, p.Targets...)}
}

// getQueue lists what runs and what waits. A prompt whose worker fell silent waits for another one.
func (s *Server) getQueue(c *gin.Context) {
	list := s.Queue.List()
	prompts, err := s.Queue.Read(c.Request.Context(), list)
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	running, pending := [][]any{}, [][]any{}
	for i, info := range list {
		switch {
		case prompts[i].Graph == nil: // it has finished since
		case info.State == queue.Running:
			running = append(running, item(info, prompts[i]))
		default:
			pending = append(pending, item(info, prompts[i]))
		}
	}
	s.answerJSON(c, http.StatusOK, gin.H{"queue_running": running, "queue_pending": pending})
}

// change reads a body with "clear" and "delete", the form in which queue and history are changed. False: it has answered.
func (s *Server) change(c *gin.Context) (clear bool, ids []string, ok bool) {
	fields, err := readRequest(c)
	if err == nil {
		if raw, given := fields["delete"]; given {
			ids, err = idList(raw)
		}
	}
	if err != nil {
		answerText(c, http.StatusInternalServerError, trouble)
		return false, nil, false
	}
	if clear = fields.true("clear"); clear && !may(c, admin) {
		s.turnAway(c, refused("forbidden", "This removes what others have submitted; it needs a token for admin.", "").with(http.StatusForbidden, 0))
		return false, nil, false
	}
	return clear, ids, true
}

// may reports whether the request's token, if it needs one, has a scope.
func may(c *gin.Context, needs scope) bool {
	who, known := identity(c)
	return !known || who.Scope >= needs
}

func readRequest(c *gin.Context) (bodyFields, error) {
	data, err := io.ReadAll(c.Request.Body)
	if err != nil {
		return nil, err
	}
	return readBody(data)
}

// idList is the texts of a list. Going through the letters of a text deletes nothing, as ids are longer.
func idList(raw json.RawMessage) ([]string, error) {
	switch kindOf(raw) {
	case workflows.KindString, workflows.KindObject:
		return nil, nil
	case workflows.KindList:
	default:
		return nil, errTrouble
	}
	var items []any
	if err := json.Unmarshal(raw, &items); err != nil {
		return nil, err
	}
	var ids []string
	for _, item := range items {
		if id, ok := item.(string); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// postQueue removes prompts that wait.
func (s *Server) postQueue(c *gin.Context) {
	clear, ids, ok := s.change(c)
	if !ok {
		return
	}
	var err error
	if clear {
		if _, err = s.Queue.Clear(c.Request.Context()); err == nil {
			s.tellStatus()
		}
	}
	for _, id := range ids {
		var removed bool
		if err == nil {
			removed, err = s.cancel(c.Request.Context(), id, unclaimed...)
		}
		if removed {
			s.tellStatus()
		}
	}
	s.changed(c, err)
}

// changed ends a request that changed the queue.
func (s *Server) changed(c *gin.Context, err error) {
	if err != nil {
		s.answerTrouble(c, err)
		return
	}
	answerEmpty(c, http.StatusOK)
}

// unclaimed are the states of a prompt that no worker executes.
var unclaimed = []queue.State{queue.Queued, queue.Lost}

// cancel cancels a prompt that is in one of the states, and reports whether it was.
func (s *Server) cancel(ctx context.Context, id string, states ...queue.State) (bool, error) {
	info, err := s.Queue.Find(ctx, id)
	if err != nil || !slices.Contains(states, info.State) {
		return false, err
	}
	_, err = s.Queue.Cancel(ctx, id)
	return true, err
}

// interrupt stops the running prompt that the body names, or all that run.
func (s *Server) interrupt(c *gin.Context) {
	data, err := io.ReadAll(c.Request.Body)
	if err != nil {
		answerEmpty(c, http.StatusBadRequest)
		return
	}
	fields := bodyFields{}
	if json.Valid(data) {
		if kindOf(data) != workflows.KindObject {
			answerText(c, http.StatusInternalServerError, trouble)
			return
		}
		if err := json.Unmarshal(data, &fields); err != nil {
			fields = bodyFields{}
		}
	}
	id, _ := pythonText(fields["prompt_id"])
	if fields.true("prompt_id") {
		_, err = s.cancel(c.Request.Context(), id, queue.Running)
	} else {
		err = s.cancelRunning(c)
	}
	s.changed(c, err)
}

// cancelRunning stops all that runs; with a token that is not for admin, only what was submitted with it.
func (s *Server) cancelRunning(c *gin.Context) error {
	who, _ := identity(c)
	for _, info := range s.Queue.List() {
		if info.State != queue.Running || !may(c, admin) && info.Owner != who.Name {
			continue
		}
		if _, err := s.cancel(c.Request.Context(), info.ID, queue.Running); err != nil {
			return err
		}
	}
	return nil
}

// free forgets models and results. Results alone take the models with them, as in ComfyUI.
func (s *Server) free(c *gin.Context) {
	data, err := io.ReadAll(c.Request.Body)
	if err != nil {
		answerEmpty(c, http.StatusBadRequest)
		return
	}
	fields, err := readBody(data)
	if err != nil || kindOf(data) != workflows.KindObject {
		answerText(c, http.StatusInternalServerError, trouble)
		return
	}
	models, results := fields.true("unload_models"), fields.true("free_memory")
	if s.Free != nil && (models || results) {
		s.Free(models || results, results)
	}
	answerEmpty(c, http.StatusOK)
}

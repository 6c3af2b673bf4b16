package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/comfyrun/comfyrun/engine/queue"
	"github.com/comfyrun/comfyrun/web/webtest"
)

// FuzzPostPrompt sends all kinds of bodies. ComfyUI's own stumbling (status 500 with the recorded text) is kept for what
// it was recorded for; nothing else may be a failure of the server, and what is accepted can be read back.
func FuzzPostPrompt(f *testing.F) {
	seedPrompts(f)
	s := newStage(f, queue.Options{Memory: true, MaxQueued: 1 << 30})
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/prompt", bytes.NewReader(body)))
		switch w.Code {
		case http.StatusOK:
			checkQueue(t, s)
		case http.StatusInternalServerError:
			if w.Body.String() != trouble || !stumbles(body) {
				t.Errorf("status 500: %s", w.Body)
			}
		case http.StatusBadRequest:
			var answer struct {
				Error      struct{ Type, Message string }
				NodeErrors map[string]json.RawMessage `json:"node_errors"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Error.Type == "" || answer.Error.Message == "" || answer.NodeErrors == nil {
				t.Errorf("status 400, %v: %s", err, w.Body)
			}
		default:
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}

// seedPrompts adds the bodies of all recorded prompts.
func seedPrompts(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "http", "*.json"))
	if err != nil || len(files) == 0 {
		f.Fatal("there are no transcripts", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var tr webtest.Transcript
		if err := json.Unmarshal(data, &tr); err != nil {
			f.Fatal(err)
		}
		for _, step := range tr.Steps {
			if step.Request.Method != http.MethodPost {
				continue
			}
			if step.Request.JSON != nil {
				f.Add([]byte(step.Request.JSON))
			} else if step.Request.Text != nil {
				f.Add([]byte(*step.Request.Text))
			}
		}
	}
}

// stumbles reports whether ComfyUI was recorded to stumble over such a body: no JSON, no container, a number that is
// none, a prompt that is null, a node that is neither object nor list nor text.
func stumbles(body []byte) bool {
	if !json.Valid(body) {
		return true // also what is valid only with NaN quoted: it may hold any of the others
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		return true
	}
	if raw, ok := fields["number"]; ok {
		if _, ok := pythonFloat(raw); !ok {
			return true
		}
	}
	var prompt any
	if json.Unmarshal(fields["prompt"], &prompt) == nil && prompt == nil {
		return true
	}
	nodes, _ := prompt.(map[string]any)
	for _, node := range nodes {
		switch node.(type) {
		case nil, bool, float64:
			return true
		}
	}
	return false
}

// checkQueue reads the queue back and empties it.
func checkQueue(t *testing.T, s *stage) {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/queue", nil))
	var list struct {
		Pending [][]json.RawMessage `json:"queue_pending"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list.Pending) != 1 || len(list.Pending[0]) != 5 {
		t.Errorf("GET /queue, %v: %s", err, w.Body)
	}
	if _, err := s.queue.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
}

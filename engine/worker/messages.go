package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/comfyrun/comfyrun/engine"
)

// Kinds of queue events (queue.Event.Kind).
const (
	KindMessage = "message" // Data: the whole JSON text for a socket
	KindPreview = "preview" // Data: the body of binary frame 4: metadata and picture
	KindText    = "text"    // Data: the body of binary frame 3: a node's id and a text
	KindStatus  = "status"  // Data: a Status
)

// Status is the event that the number of prompts has changed. Such events come
// from whoever changed it, so those of one prompt may overtake each other.
type Status struct {
	Remaining int    `json:"remaining"` // prompts queued or running, as the sender sees it
	Change    Change `json:"change"`
}

// Change says what happened to the prompt of a Status event.
type Change string

// What can change the number of prompts.
const (
	Accepted Change = "accepted"
	Begun    Change = "begun"
	Other    Change = "other" // one has ended, some were removed
)

// message is the JSON text of a socket message.
func message(kind string, data json.RawMessage) []byte {
	return fmt.Appendf(nil, `{"type":"%s","data":%s}`, kind, data)
}

// encode is a value as JSON. Numbers that JSON lacks become null; a value that
// cannot be encoded becomes its description.
func encode(v any) json.RawMessage {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return encode(fmt.Sprintf("%T: %v", v, err))
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// Data of messages, members in ComfyUI's order.
type (
	stamped struct {
		Prompt    string `json:"prompt_id"`
		Timestamp int64  `json:"timestamp"`
	}
	cached struct {
		Nodes []string `json:"nodes"`
		stamped
	}
	executing struct {
		Node    string `json:"node"`
		Display string `json:"display_node"`
		Prompt  string `json:"prompt_id"`
	}
	over struct {
		Node   *string `json:"node"` // null
		Prompt string  `json:"prompt_id"`
	}
	executed struct {
		Node    string          `json:"node"`
		Display string          `json:"display_node"`
		Output  json.RawMessage `json:"output"`
		Prompt  string          `json:"prompt_id"`
	}
	step struct {
		Value  int    `json:"value"`
		Max    int    `json:"max"`
		Prompt string `json:"prompt_id"`
		Node   string `json:"node"`
	}
	interrupted struct {
		Prompt    string   `json:"prompt_id"`
		Node      string   `json:"node_id"`
		Class     string   `json:"node_type"`
		Executed  []string `json:"executed"`
		Timestamp int64    `json:"timestamp"`
	}
	failed struct {
		Prompt    string          `json:"prompt_id"`
		Node      string          `json:"node_id"`
		Class     string          `json:"node_type"`
		Executed  []string        `json:"executed"`
		Message   string          `json:"exception_message"`
		Exception string          `json:"exception_type"`
		Traceback []string        `json:"traceback"`
		Inputs    json.RawMessage `json:"current_inputs"`
		Outputs   []string        `json:"current_outputs"`
		Timestamp int64           `json:"timestamp,omitempty"`
	}
)

func stamp(t time.Time) int64 { return t.UnixMilli() }

// list makes an empty list of nil, which JSON would show as null.
func list(ids []string) []string {
	if ids == nil {
		return []string{}
	}
	return ids
}

// shown is what a node shows, as JSON; null for nothing.
func shown(ui engine.UI) json.RawMessage {
	if len(ui) == 0 {
		return json.RawMessage("null")
	}
	clean := make(map[string]any, len(ui))
	for key, values := range ui {
		clean[key] = plain(values)
	}
	return encode(clean)
}

// plain replaces floats, which Python writes with a point and JSON cannot always hold.
func plain(v any) any {
	switch v := v.(type) {
	case float64:
		return number(v)
	case float32:
		return number(float64(v))
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = plain(item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = plain(item)
		}
		return out
	}
	return v
}

func number(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	return engine.Float(f)
}

package engine

import (
	"encoding/json"
	"reflect"
)

// Prompt is a hidden input: the submitted graph in the API format, as JSON,
// after the literals were brought to their declared kinds. Nil where the
// caller runs a plan without one.
type Prompt json.RawMessage

// ExtraPNGInfo is a hidden input: what the client wants written into every
// picture, name by name (the editor sends its own graph as "workflow").
type ExtraPNGInfo map[string]json.RawMessage

// UniqueID is a hidden input: the id of the node itself. A type that asks for
// it does not share cached results between nodes.
type UniqueID string

// HiddenValues is what hidden inputs of a call are filled from.
type HiddenValues struct {
	Prompt    Prompt
	Extra     ExtraPNGInfo
	UniqueID  UniqueID
	DynPrompt DynPrompt
}

// hiddenKind says whether a field of type t is a hidden input, and the name it
// has in object_info when its tag gives none.
func hiddenKind(t reflect.Type) (HiddenKind, string, bool) {
	switch t {
	case reflect.TypeFor[Prompt]():
		return HiddenPrompt, "prompt", true
	case reflect.TypeFor[ExtraPNGInfo]():
		return HiddenExtraPNGInfo, "extra_pnginfo", true
	case reflect.TypeFor[UniqueID]():
		return HiddenUniqueID, "unique_id", true
	case reflect.TypeFor[DynPrompt]():
		return HiddenDynPrompt, "dynprompt", true
	}
	return "", "", false
}

func (h *HiddenValues) value(kind HiddenKind) reflect.Value {
	switch kind {
	case HiddenPrompt:
		return reflect.ValueOf(h.Prompt)
	case HiddenExtraPNGInfo:
		return reflect.ValueOf(h.Extra)
	case HiddenUniqueID:
		return reflect.ValueOf(h.UniqueID)
	}
	return reflect.ValueOf(&h.DynPrompt).Elem()
}

func (t *NodeType) hides(kind HiddenKind) bool {
	for _, h := range t.Hidden {
		if h.Kind == kind {
			return true
		}
	}
	return false
}

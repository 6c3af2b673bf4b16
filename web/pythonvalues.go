package web

import (
	"bytes"
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
)

// kindOf is the kind of a valid JSON text.
func kindOf(raw json.RawMessage) workflows.Kind {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return workflows.KindNull
	}
	switch raw[0] {
	case 'n':
		return workflows.KindNull
	case 't', 'f':
		return workflows.KindBool
	case '"':
		return workflows.KindString
	case '[':
		return workflows.KindList
	case '{':
		return workflows.KindObject
	}
	return workflows.KindNumber
}

// truthy is Python's truth of a valid JSON text: all but null, false, zero and what is empty.
func truthy(raw json.RawMessage) bool {
	switch kindOf(raw) {
	case workflows.KindNull:
		return false
	case workflows.KindBool:
		return bytes.Contains(raw, []byte("true"))
	case workflows.KindNumber:
		f, err := strconv.ParseFloat(string(bytes.TrimSpace(raw)), 64)
		return err != nil || f != 0
	}
	var b bytes.Buffer
	return json.Compact(&b, raw) == nil && b.Len() > len("[]")
}

// pythonText is Python's str() of a JSON text that is no list and no object.
func pythonText(raw json.RawMessage) (string, bool) {
	text := string(bytes.TrimSpace(raw))
	switch kindOf(raw) {
	case workflows.KindNull:
		return "None", true
	case workflows.KindBool:
		return strings.ToUpper(text[:1]) + text[1:], true
	case workflows.KindNumber:
		if !strings.ContainsAny(text, ".eE") {
			return text, true
		}
		f, _ := strconv.ParseFloat(text, 64) // out of range: an infinity, as in Python
		return engine.Float(f).String(), true
	case workflows.KindString:
		var s string
		return s, json.Unmarshal(raw, &s) == nil
	}
	return "", false
}

// pythonFloat is Python's float() of a JSON text.
func pythonFloat(raw json.RawMessage) (float64, bool) {
	switch kindOf(raw) {
	case workflows.KindBool:
		if truthy(raw) {
			return 1, true
		}
		return 0, true
	case workflows.KindNumber, workflows.KindString:
		text, _ := pythonText(raw)
		text = strings.TrimSpace(text)
		f, err := strconv.ParseFloat(text, 64)
		return f, !strings.ContainsAny(text, "xXpP_") && (err == nil || math.IsInf(f, 0))
	}
	return 0, false
}

// numberText is a prompt's number as Python writes it: an integer if the server counted it, else a float.
func numberText(n float64, assigned bool) json.RawMessage {
	if assigned {
		return strconv.AppendInt(nil, int64(n), 10)
	}
	return json.RawMessage(engine.Float(n).String())
}

// bareNumbers are those that Python writes and JSON lacks; strings are matched so that what is in them is left alone.
var bareNumbers = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|NaN|-?Infinity`)

// quoteBare makes texts of bare NaN and Infinity, which Python's clients send. A FLOAT reads them again as what they are.
func quoteBare(data []byte) []byte {
	return bareNumbers.ReplaceAllFunc(data, func(token []byte) []byte {
		if token[0] == '"' {
			return token
		}
		return []byte(`"` + string(token) + `"`)
	})
}

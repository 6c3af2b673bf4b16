package ort

import "strings"

// Code says what kind of failure an Error is. The binding does not hand on
// ONNX Runtime's own numeric codes.
type Code string

// The kinds of failure.
const (
	CodeLibrary Code = "library" // the library is missing or cannot be loaded
	CodeVersion Code = "version" // the library has a version that is refused
	CodeModel   Code = "model"   // the graph or a weight file is not accepted
	CodeInput   Code = "input"   // tensors do not fit the graph, or the session is closed
	CodeMemory  Code = "memory"  // memory ran out
	CodeRun     Code = "run"     // an operator failed
)

// Error is a failure of ONNX Runtime or of a call to it.
type Error struct {
	Op       string // what was done, with the session's name: `run session "unet"`
	Code     Code
	Provider string // execution provider, "" where none is concerned
	Message  string
}

// Error returns "operation: message" with the provider, if any.
func (e *Error) Error() string {
	s := e.Op
	if e.Provider != "" {
		s += " on " + e.Provider
	}
	return s + ": " + e.Message
}

// wrap makes an Error of what the binding returned.
func wrap(op string, code Code, provider string, err error) error {
	message := err.Error()
	for _, sign := range []string{"Failed to allocate memory", "bad_alloc", "BFCArena"} {
		if strings.Contains(message, sign) {
			code = CodeMemory
		}
	}
	return &Error{Op: op, Code: code, Provider: provider, Message: message}
}

package engine

import (
	"fmt"
	"runtime/debug"
)

// InputError is a value that does not fit the Go field of an input.
type InputError struct {
	Input string
	Err   error
}

// Error names the input.
func (e *InputError) Error() string { return fmt.Sprintf("input %s: %v", e.Input, e.Err) }

// Unwrap is the cause.
func (e *InputError) Unwrap() error { return e.Err }

// PanicError is a panic in a node's own code, caught at the engine's border.
type PanicError struct {
	Value any
	Stack []byte
}

// Error is the panic's value.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// catch turns a panic of f into an error.
func catch(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}

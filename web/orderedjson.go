package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// member is one entry of an object.
type member struct {
	Key   string
	Value json.RawMessage
}

// object is a JSON object that keeps the order of its entries and the text of its values, numbers of any size included.
type object []member

// set gives a key a value: in its place if it is there, else at the end.
func (o *object) set(key string, value json.RawMessage) {
	for i := range *o {
		if (*o)[i].Key == key {
			(*o)[i].Value = value
			return
		}
	}
	*o = append(*o, member{key, value})
}

// get returns the value of a key, null if it has none.
func (o object) get(key string) json.RawMessage {
	if i := slices.IndexFunc(o, func(m member) bool { return m.Key == key }); i >= 0 {
		return o[i].Value
	}
	return json.RawMessage("null")
}

// MarshalJSON writes the entries in order.
func (o object) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			out = append(out, ',')
		}
		key, err := asciiJSON(m.Key)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, key...), ':'), m.Value...)
	}
	return append(out, '}'), nil
}

// UnmarshalJSON reads an object; of a key that occurs twice the last value counts.
func (o *object) UnmarshalJSON(data []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return errors.New("read JSON: not an object")
	}
	*o = nil
	at := map[string]int{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return fmt.Errorf("read JSON: key %v is no string", token)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		if i, ok := at[key]; ok {
			(*o)[i].Value = value
			continue
		}
		at[key] = len(*o)
		*o = append(*o, member{key, value})
	}
	return nil
}

// seconds is a time, in nanoseconds since 1970, that JSON shows as Python does: seconds with a fraction.
type seconds int64

// MarshalJSON writes a decimal point always.
func (s seconds) MarshalJSON() ([]byte, error) {
	text := strconv.FormatFloat(float64(s)/1e9, 'f', -1, 64)
	if !bytes.ContainsRune([]byte(text), '.') {
		text += ".0"
	}
	return []byte(text), nil
}

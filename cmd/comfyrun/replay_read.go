package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/workflows"
)

// parseRecorded reads the text of a receipt.
func parseRecorded(path, file string, data []byte) (*recorded, error) {
	r := &recorded{path: path, folder: filepath.Dir(file), receipt: &receipt{}}
	err := json.Unmarshal(data, r.receipt)
	switch {
	case err != nil:
	case r.receipt.Receipt == 0:
		err = errors.New("this is no receipt; comfyrun exec writes one beside each picture")
	case r.receipt.Receipt > receiptForm:
		err = fmt.Errorf("its form is %d, this program knows forms up to %d", r.receipt.Receipt, receiptForm)
	default:
		r.graph, err = workflows.Parse(r.receipt.Workflow)
	}
	if err != nil {
		return nil, fmt.Errorf("read receipt %s: %w", file, err)
	}
	return r, nil
}

// fromPicture reads what a picture carries: the prompt, and the head of its receipt if comfyrun made it.
func fromPicture(path string, data []byte) (*recorded, error) {
	found, err := workflows.FromPicture(data)
	if err == nil && len(found.Prompt) == 0 {
		err = errors.New("it carries no prompt")
	}
	r := &recorded{path: path, folder: filepath.Dir(path), alone: path, receipt: &receipt{Name: path}}
	if err == nil {
		r.graph, err = workflows.Parse(found.Prompt)
	}
	if err != nil {
		return nil, fmt.Errorf("read picture %s: %w", path, err)
	}
	texts, err := imagefile.ReadText(bytes.NewReader(data))
	if err != nil {
		return r, nil // no PNG: it has no room for more
	}
	for _, t := range texts {
		var head receiptHead
		if t.Key == "receipt" && json.Unmarshal([]byte(t.Value), &head) == nil {
			r.receipt.Models, r.receipt.Engine, r.receipt.Digest = head.Models, head.Engine, head.Digest
		}
	}
	return r, nil
}

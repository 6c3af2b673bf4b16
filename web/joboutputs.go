package web

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/comfyrun/comfyrun/workflows"
)

// jobOutputs is what a list of jobs says of a run's outputs.
type jobOutputs struct {
	count, previewable int
	preview            object // the output to show for the whole job
	rank               int    // of the preview, lower is better
}

// How well an output stands for its job.
const (
	savedMedia = iota
	otherMedia
	textFile
	rawText
	nothing
)

var (
	mediaTypes = []string{"images", "video", "audio", "3d"}
	solidFiles = []string{".fbx", ".glb", ".gltf", ".obj", ".stl", ".usdz", ".ply", ".splat", ".ksplat", ".spz"}
	textFiles  = []string{".txt", ".md", ".json", ".csv", ".log", ".xml", ".yaml", ".yml", ".srt", ".vtt"}
)

// findOutputs counts the outputs of a run and picks the one to show.
func findOutputs(outputs object) *jobOutputs {
	found := &jobOutputs{rank: nothing}
	for _, node := range outputs {
		var media object
		if json.Unmarshal(node.Value, &media) != nil {
			continue // a node that shows something of another shape
		}
		for _, m := range media {
			var items []json.RawMessage
			if m.Key == "animated" || json.Unmarshal(m.Value, &items) != nil {
				continue
			}
			for _, item := range items {
				found.add(node.Key, m.Key, item)
			}
		}
	}
	return found
}

// add counts one output of a node.
func (o *jobOutputs) add(node, media string, item json.RawMessage) {
	switch kindOf(item) {
	case workflows.KindObject:
		var entry object
		if json.Unmarshal(item, &entry) == nil {
			o.count++
			o.show(node, media, entry)
		}
	case workflows.KindString:
		text, _ := pythonText(item)
		switch {
		case slices.Contains(solidFiles, strings.ToLower(path.Ext(text))):
			o.count++
			subfolder, name := path.Split(text)
			o.show(node, "3d", object{{"filename", quoted(name)}, {"subfolder", quoted(strings.TrimSuffix(subfolder, "/"))},
				{"type", quoted("output")}})
		case media == "text":
			o.offer(rawText, node, media, textPreview(text))
		}
	}
}

// show counts an entry that can be shown and offers it as the preview.
func (o *jobOutputs) show(node, media string, entry object) {
	text := func(key string) string { s, _ := pythonText(entry.get(key)); return s }
	ending, format := strings.ToLower(path.Ext(text("filename"))), text("format")
	rank := otherMedia
	switch {
	case slices.Contains(mediaTypes, media), slices.Contains(solidFiles, ending),
		strings.HasPrefix(format, "video/"), strings.HasPrefix(format, "audio/"):
		if text("type") == "output" {
			rank = savedMedia
		}
	case media == "text", slices.Contains(textFiles, ending):
		rank = textFile
	default:
		return
	}
	o.previewable++
	o.offer(rank, node, media, entry)
}

// offer takes an entry as the preview when it is better than the one so far.
func (o *jobOutputs) offer(rank int, node, media string, entry object) {
	if rank >= o.rank {
		return
	}
	entry = slices.Clone(entry)
	entry.set("nodeId", quoted(node))
	entry.set("mediaType", quoted(media))
	o.rank, o.preview = rank, entry
}

// textPreview is the beginning of a text.
func textPreview(text string) object {
	const most = 1024
	if utf8.RuneCountInString(text) <= most {
		return object{{"content", quoted(text)}}
	}
	return object{{"content", quoted(string([]rune(text)[:most]))}, {"truncated", json.RawMessage("true")}}
}

func quoted(s string) json.RawMessage {
	data, err := asciiJSON(s)
	if err != nil {
		return json.RawMessage(`""`) // a text can be encoded
	}
	return data
}

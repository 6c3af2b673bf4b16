package web

import (
	"path"
	"strings"
)

const octetStream = "application/octet-stream"

// contentTypes are the types by a name's ending, as ComfyUI gives them, whatever the machine's own table says.
var contentTypes = map[string]string{
	".png": "image/png", ".apng": "image/apng", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
	".gif": "image/gif", ".bmp": "image/bmp", ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif",
	".svg": "image/svg+xml", ".ico": "image/vnd.microsoft.icon", ".exr": "image/x-exr",
	".ppm": "image/x-portable-pixmap", ".pgm": "image/x-portable-graymap",
	".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime", ".mkv": "video/x-matroska",
	".avi": "video/x-msvideo", ".mpg": "video/mpeg", ".mpeg": "video/mpeg",
	".mp3": "audio/mpeg", ".wav": "audio/x-wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".opus": "audio/ogg",
	".m4a": "audio/mp4", ".aac": "audio/aac",
	".glb": "model/gltf-binary", ".gltf": "model/gltf+json", ".obj": "model/obj", ".stl": "model/stl",
	".txt": "text/plain", ".md": "text/markdown", ".csv": "text/csv", ".html": "text/html", ".htm": "text/html",
	".css": "text/css", ".xml": "text/xml", ".xhtml": "application/xhtml+xml", ".vtt": "text/vtt",
	".js": "application/javascript; charset=utf-8", ".mjs": "text/javascript", ".json": "application/json",
	".map": "application/json", ".wasm": "application/wasm", ".pdf": "application/pdf", ".zip": "application/zip",
	".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf",
}

// contentType guesses a file's type by its name.
func contentType(name string) string {
	if kind, ok := contentTypes[strings.ToLower(path.Ext(name))]; ok {
		return kind
	}
	return octetStream
}

// harmless is the type under which a file that anybody may have put there is shown: nothing that a browser runs.
func harmless(kind string) string {
	switch kind {
	case "text/html", "text/html-sandboxed", "application/xhtml+xml", "text/javascript", "text/css":
		return octetStream
	}
	return kind
}

// scripted reports whether a browser that opens a file of the type may run scripts from inside of it.
func scripted(kind string) bool {
	return strings.Contains(kind, "html") || strings.Contains(kind, "xml")
}

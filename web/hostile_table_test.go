package web

import (
	"maps"
	"strings"
)

// hostileRow is a request that wants what it may not have, with the status that it gets.
type hostileRow struct {
	request string
	status  int
}

// hostile are all of them, by what they try.
func hostile() map[string][]hostileRow {
	all := map[string][]hostileRow{}
	for _, table := range []map[string][]hostileRow{hostileViews(), hostileUploads(), hostileUsers(), hostileOthers()} {
		maps.Copy(all, table)
	}
	return all
}

// long is a name that no file system takes.
var long = strings.Repeat("n", 1000)

func hostileViews() map[string][]hostileRow {
	view := func(status int, queries ...string) (rows []hostileRow) {
		for _, q := range queries {
			rows = append(rows, hostileRow{plain("GET", "/view?type=input&"+q), status}, hostileRow{plain("GET", "/api/view?type=input&"+q), status})
		}
		return rows
	}
	return map[string][]hostileRow{
		"view: up": view(400, "filename=../secret.txt", "filename=..%2Fsecret.txt", "filename=%2e%2e/secret.txt", "filename=/etc/passwd",
			"filename=%2Fetc%2Fpasswd", "filename=....//secret.txt", "filename=..\\secret.txt", "filename=%20[input]", "filename=[input]"),
		"view: up by the subfolder": view(403, "filename=secret.txt&subfolder=..", "filename=secret.txt&subfolder=../",
			"filename=secret.txt&subfolder=%2e%2e", "filename=secret.txt&subfolder=sub/../..", "filename=passwd&subfolder=/etc",
			"filename=secret.txt&subfolder=../input2", "filename=secret.txt&subfolder=..%2Finput2", "filename=x&subfolder=%00",
			"filename=a%00b", "filename=rgb.png%00.txt", "filename=x&subfolder="+strings.Repeat("a/", 2000)),
		"view: not there": view(404, "filename=%252e%252e%252fsecret.txt", "filename=secret.txt&subfolder=..\\", "filename=secret.txt&subfolder=.../",
			"filename="+long, "filename=x&subfolder="+long, "filename=.", "filename=sub",
			"filename=sub/", "filename=x%0d%0aSet-Cookie:a"),
		"view: links":  view(404, "filename=link.txt", "filename=absolute.txt", "filename=secret.txt&subfolder=updir", "filename=loop", "filename=pipe"),
		"view: output": {{plain("GET", "/view?filename=secret.txt&subfolder=up"), 404}},
		"view: not to be decoded": view(500, "filename=bomb.png&preview=webp", "filename=bomb.png&channel=rgb", "filename=bomb.png&preview=jpeg;1&channel=rgb",
			"filename=notes.txt&preview=", "filename=page.html&channel=a"),
		"view: odd parameters": append(view(200, "filename=rgb.png&preview=webp;99999999999999999999", "filename=rgb.png&preview=;;;;", "filename=rgb.png&preview=jpeg;-5",
			"filename=rgb.png&channel="+long, "filename=rgb.png&filename=../secret.txt", "filename=rgb.png&subfolder=./././"),
			hostileRow{plain("GET", "/view?filename=rgb.png&type=../input"), 400}, hostileRow{plain("GET", "/view?filename=rgb.png&type=user"), 400}),
		"view: ranges": {
			{plain("GET", "/view?type=input&filename=rgb.png", "Range: bytes=9999999999999999999999-"), 416},
			{plain("GET", "/view?type=input&filename=rgb.png", "Range: bytes=-9223372036854775809"), 416},
			{plain("GET", "/view?type=input&filename=rgb.png", "Range: bytes="+strings.Repeat("0-0,", 3000)+"0-0"), 200},
			{plain("GET", "/view?type=input&filename=rgb.png", "If-Modified-Since: yesterday"), 200},
		},
	}
}

func hostileUploads() map[string][]hostileRow {
	upload := func(status int, parts ...string) hostileRow {
		return hostileRow{formOf("/upload/image", parts...), status}
	}
	image := func(name string) string { return `name="image"; filename="` + name + `"` }
	return map[string][]hostileRow{
		"upload: names that lead out": {
			upload(400, image("../evil.png"), "x"), upload(400, image("../../x/evil.png"), "x"), upload(400, image("/etc/evil.png"), "x"),
			upload(400, image("a/../../evil.png"), "x"), upload(400, image(".."), "x"), upload(400, image("sub/"), "x"), upload(400, image("."), "x"),
			upload(400, image("evil\x00.png"), "x"), upload(400, image(long), "x"), upload(400, image(strings.Repeat("d/", 3000)+"x"), "x"),
			upload(400, image("updir/evil.png"), "x"), upload(400, image("updir/secret.txt"), "x", `name="overwrite"`, "true"),
			upload(400, image("e.png"), "x", `name="subfolder"`, "../x"), upload(400, image("e.png"), "x", `name="subfolder"`, "/tmp"),
			upload(400, image("e.png"), "x", `name="subfolder"`, "updir"), upload(400, image("e.png"), "x", `name="subfolder"`, "a\x00b"),
			upload(400, image("e.png"), "x", `name="subfolder"`, "rgb.png/deep"), upload(400, image("sub"), "x", `name="overwrite"`, "1"),
			upload(500, image(""), "x"), upload(400, `name="image"; filename*=utf-8''..%2Fevil.png`, "x"),
		},
		"upload: types": {
			upload(500, image("e.png"), "x", `name="type"`, "user"), upload(500, image("e.png"), "x", `name="type"`, "../input"),
			upload(500, `name="image"`, "x"), upload(400, `name="other"; filename="e.png"`, "x"),
		},
		"upload: forms": {
			{withBody("POST", "/upload/image", "{}", "Content-Type: application/json"), 400},
			{withBody("POST", "/upload/image", "x", "Content-Type: multipart/form-data"), 400},
			{withBody("POST", "/upload/image", "x", "Content-Type: multipart/form-data; boundary="+strings.Repeat("b", 200)), 400},
			{withBody("POST", "/upload/image", "--b\r\nContent-Disposition: form-data; name=\"image\"; filename=\"e\"\r\n\r\nx", "Content-Type: multipart/form-data; boundary=b"), 400},
			{formOf("/upload/image", manyParts(5000)...), 400},
			{formOf("/upload/image", image("e.png")+"\r\nX-Long: "+strings.Repeat("h", 600_000), "x"), 413},
			{withBody("POST", "/upload/image", strings.Repeat("x", 600_000), "Content-Type: multipart/form-data; boundary=b"), 413},
			{plain("POST", "/upload/image", "Content-Length: 99999999999", "Content-Type: multipart/form-data; boundary=b"), 413},
			{plain("POST", "/upload/image", "Transfer-Encoding: chunked", "Content-Type: multipart/form-data; boundary=b") + chunks(200), 400},
			{plain("POST", "/settings", "Transfer-Encoding: chunked") + chunks(200), 413},
		},
		"upload: masks": {
			{formOf("/upload/mask", image("m.png"), string(bombPNG()), `name="original_ref"`, `{"filename":"rgb.png","type":"input"}`), 500},
			{formOf("/upload/mask", image("m.png"), "x", `name="original_ref"`, `{"filename":"bomb.png","type":"input"}`), 500},
			{formOf("/upload/mask", image("m.png"), "x", `name="original_ref"`, `[`), 500},
			{formOf("/upload/mask", image("m.png"), "x", `name="original_ref"`, strings.Repeat("[", 20_000)), 500},
			{formOf("/upload/mask", image("m.png"), "x", `name="original_ref"`, `{"filename":"link.txt","type":"input"}`), 200},
			{formOf("/upload/mask", image("m.png"), "x", `name="original_ref"`, `{"filename":"secret.txt","type":"input","subfolder":".."}`), 200},
			{formOf("/upload/mask", image("../m.png"), "x", `name="original_ref"`, `{"filename":"rgb.png","type":"input"}`), 400},
		},
	}
}

func hostileUsers() map[string][]hostileRow {
	return map[string][]hostileRow{
		"userdata: out": {
			{plain("GET", "/userdata/..%2Fother%2Fsecret.txt"), 403}, {plain("GET", "/userdata/..%252Fother%252Fsecret.txt"), 403},
			{plain("GET", "/userdata/%2e%2e%2fother%2fsecret.txt"), 403}, {plain("GET", "/userdata/%2Fetc%2Fpasswd"), 403},
			{plain("GET", "/userdata/x%2F..%2F..%2Fother%2Fsecret.txt"), 403}, {plain("GET", "/userdata/a%00b"), 403}, {plain("GET", "/userdata/%2e"), 403},
			{plain("GET", "/userdata/%2e%2e"), 403}, {plain("GET", "/userdata/../other/secret.txt"), 404}, {plain("GET", "/userdata/..%5cother%5csecret.txt"), 404},
			{plain("GET", "/userdata/link.txt"), 404}, {plain("GET", "/userdata/up%2Fother%2Fsecret.txt"), 404}, {plain("GET", "/userdata/"+long), 404},
			{plain("DELETE", "/userdata/..%2Fother%2Fsecret.txt"), 403}, {plain("DELETE", "/userdata/up%2Fother%2Fsecret.txt"), 404},
			{withBody("POST", "/userdata/..%2Fother%2Fevil.txt", "x"), 403}, {withBody("POST", "/userdata/up%2Fevil.txt", "x"), 400},
			{withBody("POST", "/userdata/"+long, "x"), 400}, {withBody("POST", "/userdata/mine.txt%2Fdeep", "x"), 400},
			{withBody("POST", "/userdata/up2", "x"), 200}, {withBody("POST", "/userdata/link.txt?overwrite=false", "x"), 409},
			{plain("POST", "/userdata/mine.txt/move/..%2Fother%2Fevil.txt"), 403}, {plain("POST", "/userdata/..%2Fother%2Fsecret.txt/move/x.txt"), 403},
			{plain("POST", "/userdata/mine.txt/move/up%2Fevil.txt"), 400}, {plain("POST", "/userdata/mine.txt/move/"+long), 400},
			{plain("POST", "/userdata/up%2Fother%2Fsecret.txt/move/x.txt"), 404},
		},
		"userdata: lists": {
			{plain("GET", "/userdata?dir=.."), 403}, {plain("GET", "/userdata?dir=../other"), 403}, {plain("GET", "/userdata?dir=/etc"), 403},
			{plain("GET", "/userdata?dir=%00"), 403}, {plain("GET", "/userdata?dir=up&recurse=true"), 403}, {plain("GET", "/userdata?dir="+long), 403},
			{plain("GET", "/v2/userdata?path=../other"), 400}, {plain("GET", "/v2/userdata?path=%252e%252e%252fother"), 400},
			{plain("GET", "/v2/userdata?path=/etc"), 400}, {plain("GET", "/v2/userdata?path=up"), 404}, {plain("GET", "/v2/userdata"), 200},
		},
		"settings": {
			{withBody("POST", "/settings", strings.Repeat("[", 50_000)), 500}, {withBody("POST", "/settings", `{"a":`+strings.Repeat("[", 20_000)), 500},
			{withBody("POST", "/settings", "null"), 500}, {withBody("POST", "/settings", `{"a":1}{"b":2}`), 500}, {withBody("POST", "/settings", "\xff\xfe{}"), 500},
			{withBody("POST", "/settings/..%2F..%2Fevil", "1"), 200}, {plain("POST", "/settings/a"), 500}, {withBody("POST", "/settings/a", strings.Repeat("1", 600_000)), 413},
			{withBody("POST", "/users", `{"username":"../../evil"}`), 200}, {withBody("POST", "/users", `{"username":7}`), 500}, {withBody("POST", "/users", `{"username":"`+long+`"}`), 200},
		},
	}
}

func hostileOthers() map[string][]hostileRow {
	return map[string][]hostileRow{
		"models": {
			{plain("GET", "/models/..%2F.."), 404}, {plain("GET", "/models/%00"), 404}, {plain("GET", "/view_metadata/checkpoints?filename=../../secret.safetensors"), 404},
			{plain("GET", "/view_metadata/..%2F..?filename=secret.safetensors"), 404}, {plain("GET", "/view_metadata/checkpoints?filename="+long), 404},
			{plain("GET", "/view_metadata/checkpoints?filename=b-model.safetensors%00"), 404},
			{plain("GET", "/experiment/models/preview/checkpoints/0/../../../input/rgb.png"), 404}, {plain("GET", "/experiment/models/preview/checkpoints/0/..%2F..%2F..%2Finput%2Frgb.png"), 404},
			{plain("GET", "/experiment/models/preview/checkpoints/-1/b-model.safetensors"), 500}, {plain("GET", "/experiment/models/preview/checkpoints/x/b-model.safetensors"), 500},
			{plain("GET", "/experiment/models/preview/checkpoints/99999999999999999999/b"), 500}, {plain("GET", "/experiment/models/preview/nope/0/b"), 404},
		},
		"the rest": {
			{plain("GET", "/internal/files/..%2Fuser"), 400}, {plain("GET", "/internal/files/user"), 400}, {plain("GET", "/../secret.txt"), 404}, {plain("GET", "/%2e%2e/secret.txt"), 404},
			{plain("GET", "/..%2fsecret.txt"), 404}, {plain("GET", "//secret.txt"), 404}, {plain("GET", "/extensions/..%2F..%2Fsecret.txt"), 404},
			{plain("GET", "/%zz"), 400}, {plain("GET", "/\x01"), 400}, {plain("BREW", "/view"), 405}, {plain("GET", "/"+strings.Repeat("p", 80_000)), 431},
			{plain("GET", "/users", "X-Long: "+strings.Repeat("h", 80_000)), 431}, {plain("PATCH", "/internal/logs/subscribe"), 500},
			{withBody("PATCH", "/internal/logs/subscribe", `{"clientId":["x"]}`), 500}, {plain("GET", "/users", "X-Request-Id: a b\"<script>"), 200},
			{withBody("POST", "/settings", "{", "Expect: 100-continue"), 500},
		},
	}
}

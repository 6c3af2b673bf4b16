package ort

import "slices"

// Pin names one archive that carries the library, and what it must be. The
// archives are packages of npm and PyPI, fetched by the client that the user
// has set up.
type Pin struct {
	OS      string `json:"os"`      // as runtime.GOOS
	Arch    string `json:"arch"`    // as runtime.GOARCH
	Source  string `json:"source"`  // "npm" or "pip"
	Package string `json:"package"` // in the client's own notation
	Archive string `json:"archive"` // sha256 of the archive
	Member  string `json:"member"`  // path of the library in the archive
	Library string `json:"library"` // sha256 of the library
	// Wheel is the platform tag of the wheel; pip only.
	Wheel string `json:"wheel,omitempty"`
}

const (
	npmArchive = "6e3390d6b783e7be946fad629292799da28d0b42f84856e50d2c1b0383291e75"
	npmMember  = "package/bin/napi-v6/linux/"
	pipMember  = "onnxruntime/capi/libonnxruntime.so." + Version
)

// pins lists the builds of Version. The two sources carry different builds:
// npm's for x86-64 has the WebGPU provider, the wheel's has not.
var pins = []Pin{
	{
		OS: "linux", Arch: "amd64", Source: "npm", Package: "onnxruntime-node@" + Version,
		Archive: npmArchive, Member: npmMember + "x64/libonnxruntime.so.1",
		Library: "ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23",
	},
	{
		OS: "linux", Arch: "amd64", Source: "pip", Package: "onnxruntime==" + Version, Wheel: "manylinux_2_28_x86_64",
		Archive: "fa688e7891a6aa206636fe7372e27ee75fd17713289f6b4fc7b190e0a7de9328", Member: pipMember,
		Library: "c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed",
	},
	{
		OS: "linux", Arch: "arm64", Source: "npm", Package: "onnxruntime-node@" + Version,
		Archive: npmArchive, Member: npmMember + "arm64/libonnxruntime.so.1",
		Library: "1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76",
	},
	{
		OS: "linux", Arch: "arm64", Source: "pip", Package: "onnxruntime==" + Version, Wheel: "manylinux_2_28_aarch64",
		Archive: "6c32a000d5139a38ba9349030b0032e3331acb559d596b22738d9d2b343a2b83", Member: pipMember,
		Library: "8a218e1e446880131115c368ec7005969a5022af9a15a26173de648fef0b7789",
	},
}

// Pins returns the table of pinned archives, sorted by OS, architecture and
// source.
func Pins() []Pin { return slices.Clone(pins) }

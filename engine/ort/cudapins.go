package ort

import (
	"path"
	"slices"
)

// Wheel is an archive of PyPI that carries a part of the CUDA installation, and
// what it must be.
type Wheel struct {
	Package  string   `json:"package"`  // name==version
	Platform string   `json:"platform"` // platform tag
	Archive  string   `json:"archive"`  // sha256 of the archive
	Bytes    int64    `json:"bytes"`    // size of the archive
	Licence  string   `json:"licence"`  // whose terms it comes under
	Members  []Member `json:"members"`  // what is taken out of it
}

// Member is a file in a Wheel.
type Member struct {
	Path   string `json:"path"` // in the archive
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	As     string `json:"as,omitempty"` // its name when installed, "" is the path's last element
}

// Name returns the name under which the member is installed.
func (m Member) Name() string {
	if m.As != "" {
		return m.As
	}
	return path.Base(m.Path)
}

const (
	gpuPackage = "onnxruntime-gpu==" + Version
	capi       = "onnxruntime/capi/"
	cu13       = "nvidia/cu13/lib/"
	cudnn      = "nvidia/cudnn/lib/"
	mit        = "MIT"
	nvidia     = "NVIDIA"
)

// cudaWheels are the build of Version for CUDA and what it is linked against
// and opens by name: CUDA 13.0 and cuDNN 9, in the releases that PyTorch 2.11
// ships with, too. Every driver that can run CUDA 13 knows 13.0.
//
// cuBLAS and cuDNN compile kernels with NVRTC, which opens its builtins by
// name; cuDNN opens its other files by name. Left out are cuFFT, which only
// Fourier transforms need, and files for other purposes. The library itself is
// the last file: where it is, all is.
var cudaWheels = []Wheel{
	{
		Package: "nvidia-cuda-runtime==13.0.96", Platform: "manylinux_2_17_x86_64", Licence: nvidia, Bytes: 2_243_632,
		Archive: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
		Members: []Member{
			{cu13 + "libcudart.so.13", "96c42e418cec19054186b9429c321603cc190bf26a18104e19408117a2a817b0", 704_288, ""},
			{"nvidia_cuda_runtime-13.0.96.dist-info/licenses/License.txt", "ad6f5853fba0ca0d159d0f58d49ae49830c2f8c93f7a92648b9ce90adb4c6ccd", 59_262, "LICENSE.cuda"},
		},
	},
	{
		Package: "nvidia-cublas==13.1.0.3", Platform: "manylinux_2_27_x86_64", Licence: nvidia, Bytes: 423_133_236,
		Archive: "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
		Members: []Member{
			{cu13 + "libcublasLt.so.13", "656298c804f5adbb0df930545c17911b9584ab4e5101c0eeb65d1fe881d880f8", 541_595_600, ""},
			{cu13 + "libcublas.so.13", "e70f38efabe986acd5eb683497c62f0f1730a6176ee291d9d24c6e339d1fbf86", 54_177_976, ""},
		},
	},
	{
		Package: "nvidia-curand==10.4.0.35", Platform: "manylinux_2_27_x86_64", Licence: nvidia, Bytes: 59_544_258,
		Archive: "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
		Members: []Member{
			{cu13 + "libcurand.so.10", "b53732a66b302b11926e00f762e2c2ba67058347ff93cf4ae709de45e93e06da", 132_698_328, ""},
		},
	},
	{
		Package: "nvidia-cuda-nvrtc==13.0.88", Platform: "manylinux_2_12_x86_64", Licence: nvidia, Bytes: 90_215_200,
		Archive: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
		Members: []Member{
			{cu13 + "libnvrtc-builtins.so.13.0", "91dcd944d01da9c0f08fff5d779db136a47f6d62bdb63bae900d2f481e92c3a2", 4_380_616, ""},
			{cu13 + "libnvrtc.so.13", "a49e67e8e74590f1e98de55c39c6287efd3f59e3c3797464d7bbe0fe01349b11", 109_338_064, ""},
		},
	},
	{
		Package: "nvidia-cudnn-cu13==9.19.0.56", Platform: "manylinux_2_27_x86_64", Licence: nvidia, Bytes: 366_066_321,
		Archive: "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
		Members: []Member{
			{cudnn + "libcudnn_graph.so.9", "e292c689093f22325bffb7f84e68c58067c062a5cdd5534914ac1449f0a4e23f", 4_451_728, ""},
			{cudnn + "libcudnn_ops.so.9", "3e9182b90e8ba33027c1dcf42741ba2a8799eef3e8047cf341e00a6091ddec97", 39_855_888, ""},
			{cudnn + "libcudnn_cnn.so.9", "36480b885ab03685d9b07c9fca4bbaeb3e7c3c7c4d81297cf8195b72cd3d8f20", 4_203_904, ""},
			{cudnn + "libcudnn_adv.so.9", "87e2199f5bca489a1ed863afbb0b421c822fe0081a956d8c69216b3ae37c135f", 109_169_104, ""},
			{cudnn + "libcudnn_heuristic.so.9", "9e0202a6bcc055fc921972f335be9eeec95e469582e0f603f6548df5209ab7dc", 60_822_040, ""},
			{cudnn + "libcudnn_engines_precompiled.so.9", "7f8ce268b43c0fab298cc43854a006195bc16c0ed43bedf63b11f3699e92c6ae", 245_391_920, ""},
			{cudnn + "libcudnn_engines_runtime_compiled.so.9", "1b0025cfeab270688d4563e287a5009389464ff140d0ebcf708314223523b99b", 29_386_400, ""},
			{cudnn + "libcudnn.so.9", "94f44e2e8fb2d4bca8c534b14f03ef84e095376dad72a257fd854377ef0b3427", 129_240, ""},
			{"nvidia_cudnn_cu13-9.19.0.56.dist-info/licenses/License.txt", "49cf79bdb35734b52fe6203013b3bd759f81e998cd32aa2c65c51db9a88c61d2", 18_174, "LICENSE.cudnn"},
		},
	},
	{
		Package: gpuPackage, Platform: "manylinux_2_28_x86_64", Licence: mit, Bytes: 246_685_715,
		Archive: "6acc0f4b3d5ac5f2984432faa59dd8fcce6775f8b43a7140afa0f322c7a703b1",
		Members: []Member{
			{capi + "libonnxruntime_providers_shared.so", "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d", 14_632, ""},
			{capi + cudaProvider, "35da2e7ed0dd0d1aec5cdb16ce11a51d06c0c48cf62d1b1c9332946a4fae14fc", 272_049_904, ""},
			{"onnxruntime/LICENSE", "2f07c72751aed99790b8a4869cf2311df85a860b22ded05fa22803587a48922c", 1_073, "LICENSE.onnxruntime"},
			{"onnxruntime/ThirdPartyNotices.txt", "143764b952fdb1a7c69ce653bfba74a7744d6a8a573bfb73e235fba356c83de3", 338_088, "NOTICES.onnxruntime"},
			{pipMember, "5a140dc17c8b60b35b2ceab0bb533e65ac54f06a208948417c1f9c31df6afc4c", 29_062_976, ""},
		},
	},
}

// CUDAWheels returns the table of the CUDA installation, in the order in which
// it is fetched.
func CUDAWheels() []Wheel { return slices.Clone(cudaWheels) }

# ONNX's own node tests: `make conformance [ONNX_TESTS=DIR]`. Debian's libonnx-testdata has them.
ONNX_TESTS ?= /usr/share/libonnx-testdata/data

$(B)/tests/conformance: $(B)/obj/tests/conformance.o $(B)/libworker.a $(B)/libcommon.a
	@mkdir -p $(@D)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(libs_worker) $(libs_common)

.PHONY: conformance
conformance: $(B)/tests/conformance ## ONNX's node tests (ONNX_TESTS=DIR)
	$(Q)OPENBLAS_NUM_THREADS=1 $< $(ONNX_TESTS)

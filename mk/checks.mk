# Checks of the sources themselves.
.PHONY: check-layers check-headers check-format
check-layers: $(programs) $(B)/unit-tests ## who includes whom, and which object uses which library
	$(Q)scripts/check-layers $(B)/obj

headers := $(filter-out build/%,$(shell git ls-files '*.h' 2>/dev/null))
check-headers: $(patsubst %,$(B)/headers/%.ok,$(headers)) ## each header compiles alone
$(B)/headers/%.ok: % | $(gen_files)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -Wno-unused-function -fsyntax-only -x c -include $< /dev/null && touch $@

check-format: ## clang-format 14 would change nothing
	$(Q)git ls-files -z '*.c' '*.h' | xargs -0 clang-format --dry-run -Werror

# Running the service.
PORT ?= 8080
.PHONY: demo run
demo: $(programs) ## the main job, from upload to accuracy, against a server of its own
	$(Q)scripts/setup demo
	$(Q)scripts/demo

run: $(programs) ## start the service on http://127.0.0.1:$(PORT), data in ./data
	$(Q)mkdir -p data && exec $(B)/ptqd --data data --port $(PORT)

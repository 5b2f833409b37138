package main

import (
	"encoding/json"
	"fmt"
)

// object is JSON of Grafana's classic dashboard model, schema version 39: what
// Grafana 10 and later import.
type object = map[string]any

// source is the data source chosen by the variable.
var source = object{"type": "prometheus", "uid": "${datasource}"}

// render writes a board as a file for Grafana.
func (b board) render() []byte {
	out, err := json.MarshalIndent(object{
		"uid":           uid(b.slug),
		"title":         "sluice / " + b.title,
		"description":   b.about,
		"tags":          []string{"sluice"},
		"schemaVersion": 39,
		"editable":      false,
		"graphTooltip":  1, // one crosshair for all panels
		"refresh":       "10s",
		"time":          object{"from": "now-30m", "to": "now"},
		"timezone":      "browser",
		"templating":    object{"list": b.variables()},
		"annotations":   object{"list": annotations},
		"links": []object{{
			"title": "sluice", "type": "dashboards", "tags": []string{"sluice"},
			"asDropdown": true, "includeVars": true, "keepTime": true, "targetBlank": false,
			"icon": "external link", "tooltip": "The other dashboards, with the same choice",
		}},
		"panels": b.layout(),
	}, "", "  ")
	if err != nil {
		panic(err) // there is nothing in it that JSON could not hold
	}
	return append(out, '\n')
}

func uid(slug string) string { return "sluice-" + slug }

// annotations mark on every graph what explains a change in it.
var annotations = []object{
	annotation("Restarts", "orange", `changes(process_start_time_seconds{INSTANCE}[1m]) > 0 or changes(sluice_worker_start_time_seconds{INSTANCE}[1m]) > 0`,
		"restart of {{instance}} {{worker}}"),
	annotation("Configuration", "blue", `changes(sluice_config_generation{INSTANCE}[1m]) > 0`,
		"{{instance}} follows a new plan: its configuration or the addresses of its backends changed"),
}

func annotation(name, color, expr, text string) object {
	return object{
		"name": name, "enable": true, "iconColor": color, "datasource": source,
		"expr": matchers.Replace(expr), "step": "15s", "titleFormat": name, "textFormat": text,
	}
}

// variables are what stands at the top of the board to choose from.
func (b board) variables() []object {
	list := []object{
		{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
		choice("job", "Job", `label_values(sluice_build_info, job)`),
		choice("instance", "Instance", `label_values(sluice_build_info{job=~"$job"}, instance)`),
	}
	if b.pools {
		return append(list, choice("pool", "Pool", matchers.Replace(`label_values(sluice_pool_retries_total{INSTANCE}, pool)`)))
	}
	return append(list, choice("listener", "Listener", matchers.Replace(`label_values(sluice_listener_max_sessions{INSTANCE}, listener)`)))
}

// choice is a variable whose values Prometheus knows.
func choice(name, label, query string) object {
	return object{
		"name": name, "label": label, "type": "query", "datasource": source,
		"query": object{"query": query, "refId": name},
		"multi": true, "includeAll": true, "allValue": ".+",
		"current": object{"text": "All", "value": "$__all"},
		"refresh": 2, "sort": 1, // ask again when the time range changes
	}
}

// layout places the panels and numbers them.
func (b board) layout() []object {
	var all []object
	id, y := 0, 0
	place := func(o object, x, w, h int) {
		id++
		o["id"] = id
		o["gridPos"] = object{"x": x, "y": y, "w": w, "h": h}
		all = append(all, o)
	}
	for _, r := range b.rows {
		place(object{"type": "row", "title": r.title, "collapsed": false, "panels": []object{}}, 0, 24, 1)
		y++
		x, tallest := 0, 0
		for _, p := range r.panels {
			h := p.height
			if h == 0 {
				h = 8
			}
			if x+p.width > 24 {
				x, y, tallest = 0, y+tallest, 0
			}
			place(p.model(), x, p.width, h)
			x, tallest = x+p.width, max(tallest, h)
		}
		y += tallest
	}
	return all
}

func (p panel) model() object {
	defaults := object{"unit": p.unit, "custom": p.custom()}
	if p.min != nil {
		defaults["min"] = *p.min
	}
	if p.max != nil {
		defaults["max"] = *p.max
	}
	if p.steps != nil {
		defaults["thresholds"] = thresholds(p.steps)
		if p.kind != lines { // where they are drawn as lines
			defaults["color"] = object{"mode": "thresholds"}
		}
	}
	if p.words != nil {
		defaults["mappings"] = []object{{"type": "value", "options": p.mappings()}}
	}
	if p.link.slug != "" {
		defaults["links"] = []object{p.link.model()}
	}
	m := object{
		"type": string(p.kind), "title": p.title, "description": p.about, "datasource": source,
		"fieldConfig": object{"defaults": defaults, "overrides": []object{}},
		"options":     p.options(), "targets": p.targets(),
	}
	if p.kind == table {
		m["transformations"] = []object{
			{"id": "merge", "options": object{}},
			{"id": "organize", "options": object{"excludeByName": object{"Time": true, "__name__": true}}},
		}
	}
	return m
}

func (p panel) mappings() object {
	options := object{}
	for value, text := range p.words {
		options[value] = object{"text": text}
	}
	return options
}

func thresholds(steps []step) object {
	list := make([]object, len(steps))
	for i, s := range steps {
		list[i] = object{"color": s.color, "value": s.from}
	}
	list[0]["value"] = nil // Grafana's minus infinity
	return object{"mode": "absolute", "steps": list}
}

// custom are the settings of fields that only some kinds know.
func (p panel) custom() object {
	switch p.kind {
	case lines:
		c := object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "stacking": object{"mode": "none"}, "thresholdsStyle": object{"mode": "off"}}
		if p.steps != nil {
			c["thresholdsStyle"] = object{"mode": "dashed"}
		}
		if p.stack {
			c["fillOpacity"], c["stacking"] = 60, object{"mode": "normal"}
		}
		return c
	case states:
		return object{"fillOpacity": 70, "lineWidth": 0}
	}
	return object{}
}

func (p panel) options() object {
	last := object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}
	switch p.kind {
	case lines:
		return object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		}
	case number:
		return object{"reduceOptions": last, "colorMode": "value", "graphMode": "area", "textMode": "auto"}
	case bars:
		return object{"reduceOptions": last, "displayMode": "gradient", "orientation": "horizontal", "showUnfilled": true}
	case states:
		return object{"showValue": "auto", "mergeValues": true, "legend": object{"displayMode": "list", "placement": "bottom", "showLegend": true}}
	case buckets:
		return object{
			"calculate": false, "color": object{"mode": "scheme", "scheme": "Blues", "steps": 64},
			"yAxis": object{"unit": p.unit}, "tooltip": object{"mode": "single"}, "legend": object{"show": true},
		}
	}
	return object{"showHeader": true, "cellHeight": "sm"}
}

func (p panel) targets() []object {
	list := make([]object, len(p.queries))
	for i, q := range p.queries {
		t := object{
			"refId": string(rune('A' + i)), "datasource": source,
			"expr": matchers.Replace(q.expr), "legendFormat": q.legend, "range": true,
		}
		switch p.kind {
		case table, bars:
			t["range"], t["instant"] = false, true
		case buckets:
			t["format"] = "heatmap"
		}
		if p.kind == table {
			t["format"] = "table"
		}
		list[i] = t
	}
	return list
}

func (l link) model() object {
	url := fmt.Sprintf("/d/%s?${__url_time_range}&${datasource:queryparam}&${job:queryparam}&var-instance=${__field.labels.instance}", uid(l.slug))
	if l.label != "" {
		url += fmt.Sprintf("&var-%s=${__field.labels.%[1]s}", l.label)
	}
	return object{"title": l.title, "url": url}
}

{#- Fails for each combination of values of the columns that more than one row has. -#}
{% test unique_combination_of_columns(model, columns) %}
SELECT
  {{ columns | join(",\n  ") }},
  COUNT(*) AS row_count
FROM {{ model }}
GROUP BY
  {{ columns | join(",\n  ") }}
HAVING COUNT(*) > 1
{% endtest %}

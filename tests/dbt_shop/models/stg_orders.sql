{{ config(materialized="view") }}
select id as order_id, customer_id, amount, state from {{ ref("raw_orders") }}
